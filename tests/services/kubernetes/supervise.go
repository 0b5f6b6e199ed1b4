package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// supervisor runs the parts as children of this process, and again whenever one ends.
type supervisor struct {
	running  sync.WaitGroup
	stopping atomic.Bool
	names    []string
}

func (s *supervisor) run(name string, arguments ...string) {
	s.names = append(s.names, name)
	s.running.Add(1)
	go s.supervise(name, arguments)
}

// stop kills them: the API server's own graceful end waits up to a minute for open watches, and all state is in etcd.
func (s *supervisor) stop() {
	s.stopping.Store(true)
	for _, name := range s.names {
		_ = ctl("kill", name)
	}
	s.running.Wait()
}

// supervise leaves a part alone for as long as `ctl down` holds it.
func (s *supervisor) supervise(name string, arguments []string) {
	defer s.running.Done()
	runtime.LockOSThread() // Pdeathsig follows the thread that started the child
	log, _ := os.OpenFile(path("logs", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	_ = os.Remove(holdFile(name))
	for !s.stopping.Load() {
		if _, err := os.Stat(holdFile(name)); err == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		child := exec.Command("/proc/self/exe", append([]string{name}, arguments...)...)
		child.Stdout, child.Stderr = log, log
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			fmt.Fprintln(os.Stderr, "kube1:", name, err)
			time.Sleep(time.Second)
			continue
		}
		_ = os.WriteFile(pidFile(name), []byte(fmt.Sprint(child.Process.Pid)), 0o644)
		err := child.Wait()
		_ = os.Remove(pidFile(name))
		fmt.Printf("kube1: %s ended: %v\n", name, err)
		time.Sleep(200 * time.Millisecond)
	}
}

// ctl does something to a part, from another process in the same container.
func ctl(verb, name string) error {
	if _, ok := components[name]; !ok {
		return fmt.Errorf("unknown part %q", name)
	}
	signals := map[string]syscall.Signal{
		"kill": syscall.SIGKILL, "down": syscall.SIGKILL, "pause": syscall.SIGSTOP, "resume": syscall.SIGCONT,
	}
	switch verb {
	case "start":
		return os.RemoveAll(holdFile(name)) // one that is not held is no error
	case "down":
		if err := os.WriteFile(holdFile(name), nil, 0o644); err != nil {
			return err
		}
	}
	signal, ok := signals[verb]
	if !ok {
		return fmt.Errorf("unknown verb %q", verb)
	}
	text, err := os.ReadFile(pidFile(name))
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		return err
	}
	return syscall.Kill(pid, signal)
}

func pidFile(name string) string  { return path("run", name+".pid") }
func holdFile(name string) string { return path("run", name+".hold") }
