package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
)

// firmware measures how long a large image takes to sign and how much memory:
// by a key at hand, where no database takes part, and by the program, which
// has a server's key sign and verifies.
func (b *bench) firmware(ctx context.Context, db string, t *table) error {
	if b.image == 0 || db != "sqlite" {
		return nil
	}
	dir, err := os.MkdirTemp("", "touchmark-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := makeImage(filepath.Join(dir, "image.bin"), b.image)
	if err != nil {
		return err
	}
	defer file.Close()
	r := row{name: fmt.Sprintf("MCUboot image of %d MiB signed, MiB", b.image), limit: "SHA-256 over the file", wanted: 1 / 1.3}
	for range b.runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := signImage(file, filepath.Join(dir, "image.signed"))
		if err != nil {
			return err
		}
		r.add(float64(b.image)/m.signed.Seconds(), float64(b.image)/m.bare.Seconds())
		t.note("MCUboot image of %d MiB: signed in %s, verified in %s, with %d MiB of memory at most; SHA-256 alone %s",
			b.image, m.signed.Round(time.Millisecond), m.verified.Round(time.Millisecond), m.memory>>20, m.bare.Round(time.Millisecond))
	}
	t.rows = append(t.rows, r)
	return b.signImages(ctx, dir, file, t)
}

// makeImage writes a payload that no disk and no kernel can shorten.
func makeImage(path string, mib int) (*os.File, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(file, rand.Reader, int64(mib)<<20)
	if err == nil {
		err = file.Sync() // or the writing would go on beside what is measured
	}
	return file, err
}

type imageMeasured struct {
	bare, signed, verified time.Duration
	memory                 int64 // bytes
}

func signImage(file *os.File, path string) (m imageMeasured, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return m, err
	}
	src, err := firmwaresign.File(file)
	if err != nil {
		return m, err
	}
	if m.bare, err = hashBare(src); err != nil {
		return m, err
	}
	image := &mcuboot.Image{Version: mcuboot.Version{Major: 1}, HeaderSize: 32, PadHeader: true, Keys: []crypto.PublicKey{key.Public()}}
	debug.FreeOSMemory()
	forgetPeak()
	began := time.Now()
	if err := firmwaresign.Create(path, image, src, firmwaresign.With(key)); err != nil {
		return m, err
	}
	m.signed, m.memory = time.Since(began), peak()
	m.verified, err = verifyImage(path, key.Public())
	return m, err
}

func hashBare(file *io.SectionReader) (time.Duration, error) {
	began := time.Now()
	_, err := io.Copy(sha256.New(), io.NewSectionReader(file, 0, file.Size()))
	return time.Since(began), err
}

func verifyImage(path string, key crypto.PublicKey) (time.Duration, error) {
	signed, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer signed.Close()
	file, err := firmwaresign.File(signed)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	_, err = mcuboot.Verify(file, mcuboot.Trust{Keys: []crypto.PublicKey{key}})
	return time.Since(began), err
}
