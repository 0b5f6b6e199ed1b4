package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	apitest "k8s.io/cri-api/pkg/apis/testing"
)

// processRuntime is a container runtime whose containers are child processes, so that grace periods, signals and exit
// codes are real. What has nothing to do with processes is left to the fake runtime of Kubernetes' own tests.
type processRuntime struct {
	*apitest.FakeRuntimeService
	dir string

	mu        sync.Mutex
	configs   map[string]*runtimeapi.ContainerConfig
	processes map[string]*process
}

// process is nil inside where a container has no command: such a one just waits for SIGTERM.
type process struct {
	command *exec.Cmd
	done    chan struct{}
}

func newProcessRuntime(dir string) *processRuntime {
	r := &processRuntime{
		FakeRuntimeService: apitest.NewFakeRuntimeService(), dir: dir,
		configs: map[string]*runtimeapi.ContainerConfig{}, processes: map[string]*process{},
	}
	r.FakeStatus = &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
	}}
	return r
}

func (r *processRuntime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version: "0.1.0", RuntimeName: "process", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1",
	}, nil
}

func (r *processRuntime) CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig,
	sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	id, err := r.FakeRuntimeService.CreateContainer(ctx, sandbox, config, sandboxConfig)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.configs[id] = config
	return id, err
}

func (r *processRuntime) StartContainer(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	config := r.configs[id]
	started := &process{done: make(chan struct{})}
	if argv := append(append([]string{}, config.GetCommand()...), config.GetArgs()...); len(argv) > 0 {
		started.command = command(config, argv)
		if output, err := os.Create(r.outputFile(id)); err == nil {
			started.command.Stdout, started.command.Stderr = output, output
			defer output.Close()
		}
		if err := started.command.Start(); err != nil {
			return err
		}
	}
	if err := r.FakeRuntimeService.StartContainer(ctx, id); err != nil {
		return err
	}
	r.processes[id] = started
	if started.command != nil {
		go r.follow(id, started)
	}
	return nil
}

// StopContainer sends SIGTERM, waits for the grace period, then sends SIGKILL, as a container runtime does.
func (r *processRuntime) StopContainer(_ context.Context, id string, graceSeconds int64) error {
	r.mu.Lock()
	stopped := r.processes[id]
	r.mu.Unlock()
	if stopped == nil || stopped.command == nil {
		r.exited(id, 128+int32(syscall.SIGTERM))
		return nil
	}
	pid := stopped.command.Process.Pid
	if graceSeconds > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		select {
		case <-stopped.done:
		case <-time.After(time.Duration(graceSeconds) * time.Second):
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // its children, too
	<-stopped.done
	return nil
}

func (r *processRuntime) RemoveContainer(ctx context.Context, id string) error {
	_ = r.StopContainer(ctx, id, 0)
	r.mu.Lock()
	delete(r.processes, id)
	delete(r.configs, id)
	r.mu.Unlock()
	_ = os.Remove(r.outputFile(id))
	return r.FakeRuntimeService.RemoveContainer(ctx, id)
}

func (r *processRuntime) ExecSync(_ context.Context, id string, argv []string,
	_ time.Duration) ([]byte, []byte, error) {
	r.mu.Lock()
	config := r.configs[id]
	r.mu.Unlock()
	executed := command(config, argv)
	var output, errors bytes.Buffer
	executed.Stdout, executed.Stderr = &output, &errors
	err := executed.Run()
	return output.Bytes(), errors.Bytes(), err
}

// follow records how a process ended, a signal as shells do.
func (r *processRuntime) follow(id string, p *process) {
	_ = p.command.Wait()
	ended := p.command.ProcessState.Sys().(syscall.WaitStatus)
	code := ended.ExitStatus()
	if ended.Signaled() {
		code = 128 + int(ended.Signal())
	}
	r.exited(id, int32(code))
	close(p.done)
}

func (r *processRuntime) exited(id string, code int32) {
	r.FakeRuntimeService.Lock()
	defer r.FakeRuntimeService.Unlock()
	c, ok := r.Containers[id]
	if !ok || c.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return
	}
	c.State, c.FinishedAt, c.ExitCode = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now().UnixNano(), code
	c.Reason = "Completed"
	if code != 0 {
		c.Reason = "Error"
	}
}

func (r *processRuntime) outputFile(id string) string {
	return filepath.Join(r.dir, strings.ReplaceAll(id, "/", "_")+".out")
}

// command runs in a process group of its own, and ends with the node.
func command(config *runtimeapi.ContainerConfig, argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	for _, variable := range config.GetEnvs() {
		cmd.Env = append(cmd.Env, variable.Key+"="+variable.Value)
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	cmd.Dir = config.GetWorkingDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}
