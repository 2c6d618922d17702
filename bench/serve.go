package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/touchmark/touchmark/server"
)

// serving starts a server and gives the addresses of its doors.
type serving func(context.Context, *server.Config) (addrs map[string]string, stop func(), err error)

// serveHere serves in this process.
func serveHere(ctx context.Context, c *server.Config) (addrs map[string]string, stop func(), err error) {
	undo := func() {}
	if strings.HasPrefix(c.Database, "sqlite:") {
		undo = server.SpareProcessor() // as `touchmark serve` does
	}
	s, err := server.New(ctx, c, server.Environment{})
	if err != nil {
		undo()
		return nil, nil, err
	}
	stop = func() {
		_ = s.Stop(context.WithoutCancel(ctx))
		undo()
	}
	if err := s.Start(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	return s.Addrs(), stop, nil
}

// serveApart serves in a process of its own, which has this program do
// serveFor. That process yields to this one where they compete for the
// cores: clients have machines of their own, and the server cannot keep them
// from working.
func (b *bench) serveApart(ctx context.Context, c *server.Config) (addrs map[string]string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	child := exec.CommandContext(ctx, "nice", "-n", "5", self, "-serve", c.Dir, "-cpuprofile", b.profile, "-profiled", b.profiled)
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for this process to pass on
	in, err := child.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := child.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = in.Close()
		_ = child.Wait()
	}
	if err := json.NewDecoder(out).Decode(&addrs); err != nil {
		stop()
		return nil, nil, fmt.Errorf("the server's process: %w", err)
	}
	return addrs, stop, nil
}

// serveFor is the other process: it serves what is in dir, says where, and
// stops when its standard input ends.
func (b *bench) serveFor(ctx context.Context, dir string) error {
	c, err := server.LoadConfig(filepath.Join(dir, server.ConfigFile))
	if err != nil {
		return err
	}
	addrs, stop, err := serveHere(ctx, c)
	if err != nil {
		return err
	}
	defer stop()
	_, err = b.watched("overload", func() (*load, error) {
		err := json.NewEncoder(os.Stdout).Encode(addrs)
		_, ended := io.Copy(io.Discard, os.Stdin)
		return nil, errors.Join(err, ended)
	})
	return err
}
