package main

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
)

// wrapsEach is how many devices an image is wrapped for in one measurement.
const wrapsEach = 2000

// wraps measures how many devices a second an encrypted image is wrapped for,
// against the same for one of 64 KiB: its size must not matter. No database
// takes part.
func (b *bench) wraps(ctx context.Context, db string, t *table) error {
	if b.image == 0 || db != "sqlite" {
		return nil
	}
	dir, err := os.MkdirTemp("", "touchmark-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key := make([]byte, 16)
	rand.Read(key)
	large, err := encryptedImage(dir, int64(b.image)<<20, key)
	if err != nil {
		return err
	}
	defer large.Close()
	small, err := encryptedImage(dir, 64<<10, key)
	if err != nil {
		return err
	}
	defer small.Close()
	r := row{name: fmt.Sprintf("MCUboot image of %d MiB wrapped for a device, P-256", b.image), limit: "the same of 64 KiB", wanted: 0.95}
	for range b.runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		of, err := wrapMany(large, key)
		if err != nil {
			return err
		}
		base, err := wrapMany(small, key)
		if err != nil {
			return err
		}
		r.add(of, base)
	}
	t.rows = append(t.rows, r)
	return nil
}

// encryptedImage makes an image that waits for its devices.
func encryptedImage(dir string, size int64, contentKey []byte) (*os.File, error) {
	payload, err := os.Create(filepath.Join(dir, "payload"))
	if err != nil {
		return nil, err
	}
	defer payload.Close()
	if _, err := io.CopyN(payload, rand.Reader, size); err != nil {
		return nil, err
	}
	source, err := firmwaresign.File(payload)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprint("image-", size))
	image := &mcuboot.Image{Version: mcuboot.Version{Major: 1}, HeaderSize: 32, PadHeader: true, Keys: []crypto.PublicKey{key.Public()}, ContentKey: contentKey}
	if err := firmwaresign.Create(path, image, source, firmwaresign.With(key)); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// wrapMany gives how many devices a second an image is wrapped for, by one
// core.
func wrapMany(file *os.File, contentKey []byte) (float64, error) {
	image, err := firmwaresign.File(file)
	if err != nil {
		return 0, err
	}
	device, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for range wrapsEach {
		if _, _, err := mcuboot.Wrap(image, contentKey, &mcuboot.Recipient{Key: device.PublicKey()}); err != nil {
			return 0, err
		}
	}
	return wrapsEach / time.Since(began).Seconds(), nil
}
