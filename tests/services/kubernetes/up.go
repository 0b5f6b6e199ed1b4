package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// The controllers that Jobs, their pods and their namespaces need.
const controllers = "job-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller," +
	"ttl-after-finished-controller,root-ca-certificate-publisher-controller,pod-garbage-collector-controller," +
	"node-lifecycle-controller,taint-eviction-controller"

// up runs the cluster until SIGTERM; "kube1: ready after" on standard output says that pods can be made.
func up(san []string) error {
	began := time.Now()
	for _, folder := range []string{"pki", "logs", "run", "etcd"} {
		if err := os.MkdirAll(path(folder), 0o755); err != nil {
			return err
		}
	}
	if err := makeCredentials(san); err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	etcd, err := startEtcd()
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()

	parts := &supervisor{}
	parts.run("apiserver", apiserverFlags()...)
	ready, cancelReady := context.WithTimeout(stop, 3*time.Minute)
	defer cancelReady()
	awaitPath(ready, "/readyz")
	client := []string{"--kubeconfig=" + path("admin.kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false"}
	parts.run("controller-manager", append(client, "--controllers="+controllers, "--node-monitor-period=1s",
		"--service-account-private-key-file="+path("pki", "sa.key"), "--root-ca-file="+path("pki", "ca.crt"))...)
	parts.run("scheduler", client...)
	parts.run("node")
	awaitPath(ready, "/api/v1/namespaces/default/serviceaccounts/default")
	awaitPath(ready, "/api/v1/nodes/"+nodeName)
	if stop.Err() == nil {
		if err := ready.Err(); err != nil {
			parts.stop()
			return fmt.Errorf("not ready: %w", err)
		}
		fmt.Printf("kube1: ready after %.1f s\n", time.Since(began).Seconds())
	}
	<-stop.Done()
	parts.stop()
	return nil
}

// startEtcd keeps nothing safe from a power cut: without fsync tests are several times faster.
func startEtcd() (*embed.Etcd, error) {
	local := func(port int) []url.URL { return []url.URL{{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}} }
	config := embed.NewConfig()
	config.Name, config.Dir = "kube1", path("etcd")
	config.LogOutputs, config.LogLevel = []string{path("logs", "etcd.log")}, "warn"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = local(etcdPort), local(etcdPort)
	config.ListenPeerUrls, config.AdvertisePeerUrls = local(etcdPort+1), local(etcdPort+1)
	config.InitialCluster = fmt.Sprintf("kube1=http://127.0.0.1:%d", etcdPort+1)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case <-time.After(time.Minute):
		etcd.Close()
		return nil, errors.New("not ready after a minute")
	}
}

func apiserverFlags() []string {
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		"--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", apiPort), "--endpoint-reconciler-type=none",
		"--tls-cert-file=" + path("pki", "server.crt"), "--tls-private-key-file=" + path("pki", "server.key"),
		"--token-auth-file=" + path("pki", "tokens.csv"), "--authorization-mode=RBAC", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/24",
		"--service-account-key-file=" + path("pki", "sa.key"),
		"--service-account-signing-key-file=" + path("pki", "sa.key"),
		"--shutdown-delay-duration=0s", "--profiling=false",
	}
}

// awaitPath returns once a GET, as the administrator, is answered by 200, or the context is done.
func awaitPath(ctx context.Context, resource string) {
	client := administrator()
	for ctx.Err() == nil && status(ctx, client, resource) != http.StatusOK {
		time.Sleep(50 * time.Millisecond)
	}
}

func administrator() *http.Client {
	authority, _ := os.ReadFile(path("pki", "ca.crt"))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// status is 0 where nobody answers.
func status(ctx context.Context, client *http.Client, resource string) int {
	token, _ := os.ReadFile(path("pki", "admin.token"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, localServer+resource, nil)
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
