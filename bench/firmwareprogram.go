package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"

	"github.com/touchmark/touchmark/bench/soak"
)

// signMemory is what `touchmark firmware sign` may take, in bytes.
const signMemory = 64e6

// largest is the largest image that is signed, in MiB: MCUboot counts the
// payload in 32 bits.
const largest = 4095

// signImages measures `touchmark firmware sign` as a build runs it: what is
// signed is hashed, and so is the source; what was written is read back and
// verified before it has its name.
func (b *bench) signImages(ctx context.Context, dir string, image *os.File, t *table) error {
	s, drop, err := b.signer(ctx, dir)
	if err != nil {
		return err
	}
	defer drop()
	src, err := firmwaresign.File(image)
	if err != nil {
		return err
	}
	speed := row{name: fmt.Sprintf("firmware sign of %d MiB, verified, MiB", b.image), limit: "SHA-256 over the file", wanted: 1 / 1.3}
	memory := row{name: fmt.Sprintf("memory of firmware sign, %d MiB, bytes", b.image), limit: "64 MB over it", wanted: 1}
	for range b.runs {
		bare, err := hashBare(src)
		if err != nil {
			return err
		}
		took, peak, err := s.sign(ctx, image.Name())
		if err != nil {
			return err
		}
		speed.add(float64(b.image)/took.Seconds(), float64(b.image)/bare.Seconds())
		memory.add(signMemory, float64(peak))
	}
	t.note("firmware sign hashes the source, what is signed and what was written: three times SHA-256, on %d cores", runtime.NumCPU())
	large := row{name: fmt.Sprintf("memory of firmware sign, %d MiB, bytes", largest), limit: "64 MB over it", wanted: 1}
	took, peak, err := s.signLargest(ctx, dir)
	if err != nil {
		return err
	}
	large.add(signMemory, float64(peak))
	t.note("firmware sign of %d MiB: %s, with %d MiB of memory at most", largest, took.Round(time.Millisecond), peak>>20)
	t.rows = append(t.rows, speed, memory, large)
	return nil
}

// signer is the program with a server that has a key and a draft for it.
type signer struct {
	*world
	program string
}

func (b *bench) signer(ctx context.Context, dir string) (s *signer, drop func(), err error) {
	program, err := soak.Build(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	w, drop, err := b.world(ctx, "sqlite", filepath.Join(dir, "touchmark-data"), 1)
	if err != nil {
		return nil, nil, err
	}
	type object = map[string]any
	for path, body := range map[string]object{
		"/firmware-keys": {"name": "thermo-test", "product": "thermo", "stage": "test", "kind": "P-256"},
		"/releases":      {"product": "thermo", "version": "1.0.0", "counter": 1, "supportEnd": "2099-12-31"},
	} {
		if err := w.admin.Do(ctx, http.MethodPost, path, body, nil); err != nil {
			drop()
			return nil, nil, err
		}
	}
	return &signer{w, program}, drop, nil
}

// sign signs a file, and tells how long that took and the most memory that was
// resident, in bytes. What getrusage says of a child counts its parent, too.
func (s *signer) sign(ctx context.Context, image string) (took time.Duration, peak int64, err error) {
	defer os.Remove(image + ".signed")
	run := exec.CommandContext(ctx, s.program, "--dir", s.dir, "--server", s.api, "firmware", "sign", image,
		"--format", "mcuboot", "--stage", "test", "--release", "thermo@1.0.0", "--set", "pad-header=true")
	var said bytes.Buffer
	run.Stdout, run.Stderr = &said, &said
	began := time.Now()
	if err := run.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	for status := fmt.Sprintf("/proc/%d/status", run.Process.Pid); ; {
		select {
		case err := <-ended:
			took = time.Since(began)
			switch {
			case err != nil:
				err = fmt.Errorf("firmware sign: %w: %s", err, said.Bytes())
			case peak == 0:
				err = errors.New("the system does not tell what is resident of a process")
			}
			return took, peak, err
		case <-time.After(5 * time.Millisecond):
			peak = max(peak, figure(status, "VmHWM")<<10)
		}
	}
}

// signLargest signs the largest image. Memory is asked for, so it may be one
// that takes no room on the disk.
func (s *signer) signLargest(ctx context.Context, dir string) (took time.Duration, peak int64, err error) {
	file, err := os.Create(filepath.Join(dir, "largest.bin"))
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(file.Name())
	if err := errors.Join(file.Truncate(largest<<20), file.Close()); err != nil {
		return 0, 0, err
	}
	return s.sign(ctx, file.Name())
}
