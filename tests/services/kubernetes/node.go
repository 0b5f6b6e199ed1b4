package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/spf13/cobra"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	apitest "k8s.io/cri-api/pkg/apis/testing"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
)

// The node is the kubelet's own code (kubemark's hollow node: no cgroups, mounts or cAdvisor) with a runtime that runs
// each container's command as a plain child process (runtime.go): no containerd, no images, no privileges.
func newNodeCommand() *cobra.Command {
	command := &cobra.Command{Use: "node", RunE: func(command *cobra.Command, _ []string) error {
		return runNode(command.Context())
	}}
	command.Flags().AddGoFlagSet(flag.CommandLine)
	return command
}

func runNode(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	dir := path("node")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_ = os.Setenv("TMPDIR", dir) // kubemark keeps its state in a temporary folder
	config, err := clientcmd.BuildConfigFromFlags("", path("admin.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	options := &kubemark.HollowKubeletOptions{NodeName: nodeName, KubeletPort: kubeletPort, MaxPods: 500}
	flags, configuration := kubemark.GetHollowKubeletConfig(options)
	configuration.SyncFrequency.Duration = time.Second
	configuration.SerializeImagePulls = false
	kubemark.NewHollowKubelet(flags, configuration, client, client, &cadvisortest.Fake{NodeName: nodeName},
		apitest.NewFakeImageService(), newProcessRuntime(dir), cm.NewStubContainerManager()).Run(ctx)
	return nil
}
