// kube1: a Kubernetes cluster of one node in one static binary, for integration tests.
//
//	kube1 up [--san NAME,ADDRESS]                             runs everything until SIGTERM
//	kube1 kubeconfig [--server https://HOST:PORT]             prints an administrator's
//	kube1 ctl kill|down|start|pause|resume PART               PART: apiserver, controller-manager, scheduler, node
//
// "up" runs etcd itself, and each part as a child of the same binary: the Kubernetes components under their own names,
// and the node. This file is the command line; what each command does is in the others.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	_ "time/tzdata"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const (
	apiPort     = 6443
	etcdPort    = 2379
	kubeletPort = 10250
	nodeName    = "node1"
	localServer = "https://127.0.0.1:6443"
)

// path is of a file in the folder of all state: keys, etcd's files, logs, pid files.
func path(parts ...string) string {
	return filepath.Join(append([]string{"/var/lib/kube1"}, parts...)...)
}

// components are the parts' own command lines.
var components = map[string]func() *cobra.Command{
	"apiserver":          apiserver.NewAPIServerCommand,
	"controller-manager": controllermanager.NewControllerManagerCommand,
	"scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"node":               newNodeCommand,
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube1 up | kubeconfig | ctl VERB PART")
		os.Exit(2)
	}
	name := os.Args[1]
	if newCommand, ok := components[name]; ok {
		os.Args = append([]string{name}, os.Args[2:]...)
		os.Exit(cli.Run(newCommand()))
	}
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	san := flags.String("san", "", "up: further names and addresses for the serving certificate")
	server := flags.String("server", localServer, "kubeconfig: address of the API server")
	_ = flags.Parse(os.Args[2:])
	var err error
	switch name {
	case "up":
		err = up(strings.Split(*san, ","))
	case "kubeconfig":
		err = printKubeconfig(*server)
	case "ctl":
		err = ctl(flags.Arg(0), flags.Arg(1))
	default:
		err = fmt.Errorf("unknown command %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube1:", err)
		os.Exit(1)
	}
}

func printKubeconfig(server string) error {
	text, err := os.ReadFile(path("admin.kubeconfig"))
	if err != nil {
		return err
	}
	fmt.Print(strings.Replace(string(text), localServer, server, 1))
	return nil
}
