// Package swtpm runs software TPMs for tests: swtpm on a Unix socket, its state
// in a directory, with endorsement keys (EK) that a vendor of its own
// certified.
//
// It needs Debian's packages swtpm and swtpm-tools and no special rights. It
// knows nothing of Touchmark, so tests of both sides of the wire may use it.
package swtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// patience bounds the start and the end of one program.
const patience = time.Minute

// TPM is a software TPM. One caller at a time starts and stops it.
type TPM struct {
	// Vendor certified its endorsement keys.
	Vendor *Vendor
	// Socket is the path of the Unix socket that it listens on. It takes a
	// connection for each command, has no resource manager, and stays the same
	// over restarts.
	Socket string

	dir     string
	process *exec.Cmd
	log     *bytes.Buffer
}

// New makes a vendor and a TPM of it, which runs until the test ends.
func New(tb testing.TB) *TPM {
	tb.Helper()
	return NewVendor(tb).New(tb)
}

// New makes another TPM of the vendor, which runs until the test ends.
func (v *Vendor) New(tb testing.TB) *TPM {
	tb.Helper()
	t, err := v.Make(shortDir(tb))
	if err == nil {
		err = t.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Kill)
	return t
}

// shortDir is a temporary directory whose path leaves room for a socket's
// name: 108 bytes are all there is.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Start powers the TPM on: TPM2_Startup(CLEAR). It returns when the TPM
// answers.
func (t *TPM) Start() error {
	if t.process != nil {
		return errors.New("the software TPM runs already")
	}
	_ = os.Remove(t.Socket)
	t.log = new(bytes.Buffer)
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.dir,
		"--server", "type=unixio,path="+t.Socket, "--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = t.log, t.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start swtpm (Debian's package swtpm): %w", err)
	}
	t.process = cmd
	return t.await()
}

// await waits until the TPM answers.
func (t *TPM) await() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := t.do(func(tpm transport.TPM) error {
			_, err := tpm2.GetRandom{BytesRequested: 1}.Execute(tpm)
			return err
		})
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			t.Kill()
			return fmt.Errorf("the software TPM does not answer: %w; it said: %s", err, t.log)
		}
	}
}

// Open connects to the TPM. Who opens it closes it; a connection does not
// outlive a restart's transient objects and sessions.
func (t *TPM) Open() (transport.TPMCloser, error) { return linuxudstpm.Open(t.Socket) }

// Kill cuts the power: nothing is told to the TPM before. A TPM that does not
// run stays so.
func (t *TPM) Kill() { t.stop(syscall.SIGKILL) }

func (t *TPM) stop(signal syscall.Signal) {
	if t.process == nil {
		return
	}
	_ = t.process.Process.Signal(signal)
	_ = t.process.Wait()
	t.process = nil
}

// Reboot is an orderly restart of the machine: TPM2_Shutdown(CLEAR), power
// off, power on. Transient objects, sessions and PCRs are gone after it;
// what lies in NV memory stays.
func (t *TPM) Reboot() error {
	err := t.do(func(tpm transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(tpm)
		return err
	})
	if err != nil {
		return fmt.Errorf("shut the software TPM down: %w", err)
	}
	t.stop(syscall.SIGTERM)
	return t.Start()
}

// PowerCycle is a restart of the machine by its plug: [TPM.Kill], then
// [TPM.Start].
func (t *TPM) PowerCycle() error {
	t.Kill()
	return t.Start()
}

// Clear is what an owner does who takes a machine over: TPM2_Clear. All keys
// below the storage hierarchy are lost; the endorsement keys stay.
func (t *TPM) Clear() error {
	return t.do(func(tpm transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
		return err
	})
}

func (t *TPM) do(work func(transport.TPM) error) error {
	tpm, err := t.Open()
	if err != nil {
		return err
	}
	defer tpm.Close()
	return work(tpm)
}

// Make manufactures a TPM with its state in dir, which must be there and its
// path short enough for a socket in it (108 bytes). It has EKs of RSA-2048 and
// P-384 with certificates in NV memory. It does not run yet.
func (v *Vendor) Make(dir string) (*TPM, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v.mu.Lock()
	defer v.mu.Unlock()
	out, err := exec.CommandContext(ctx, "swtpm_setup", "--config", filepath.Join(v.dir, "setup.conf"), "--tpm2", "--tpmstate", dir,
		"--create-ek-cert", "--ecc", "--overwrite").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("swtpm_setup (Debian's package swtpm-tools): %w: %s", err, out)
	}
	return &TPM{Vendor: v, Socket: filepath.Join(dir, "tpm.sock"), dir: dir}, v.read()
}
