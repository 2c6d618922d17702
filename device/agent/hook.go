package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/touchmark/touchmark/device"
)

// environment is what a hook is told, beside PATH, HOME and LANG of the agent.
// No secret is in it.
func (c *Config) environment(official *device.Credential) []string {
	leaf := official.Leaf()
	env := []string{
		"TOUCHMARK_SERIAL=" + c.Serial,
		fmt.Sprintf("TOUCHMARK_CERTIFICATE=%x", leaf.SerialNumber.Bytes()),
		"TOUCHMARK_NOT_AFTER=" + leaf.NotAfter.UTC().Format(time.RFC3339),
		"TOUCHMARK_CERTIFICATE_FILE=" + c.Files.Certificate,
		"TOUCHMARK_CHAIN_FILE=" + c.Files.Chain,
		"TOUCHMARK_ROOTS_FILE=" + c.Files.Roots,
		"TOUCHMARK_BUNDLE_FILE=" + c.Files.Bundle,
	}
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// run runs the hook, with all that it started in a process group of its own,
// which ends with its time.
func (h *Hook) run(ctx context.Context, env []string) error {
	if len(h.Command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	cmd.Env = env
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil // what it left in the background is its own business
	case ctx.Err() != nil:
		err = fmt.Errorf("it took longer than %s", h.Timeout)
	}
	return fmt.Errorf("the hook %s failed: %w: %s", h.Command[0], err, said)
}

// tail keeps the end of what a program says.
type tail struct{ bytes.Buffer }

const longestTail = 1000

func (t *tail) Write(b []byte) (int, error) {
	t.Buffer.Write(b)
	if over := t.Len() - longestTail; over > 0 {
		t.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(t.Buffer.String(), "�"))
	return strings.Join(strings.Fields(text), " ")
}
