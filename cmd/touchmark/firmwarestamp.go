package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/touchmark/touchmark/firmware-sign/timestamp"
)

// stampSuffix is what the name of a time stamp adds to that of the file.
const stampSuffix = ".tst"

// stampSignature puts a time stamp into a signature that can hold one, before
// that is verified as a whole.
func (s *signing) stampSignature(ctx context.Context, path string) error {
	if !s.stamp || s.format.Stamp == nil {
		return nil
	}
	authority, err := s.authority()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = s.format.Stamp.Put(f, func(content []byte) ([]byte, error) { return authority.Stamp(ctx, content) })
	if err != nil {
		err = s.unstamped(err)
	}
	return errors.Join(err, f.Close())
}

// stampFile writes a time stamp over a signed file that cannot hold one.
func (s *signing) stampFile(ctx context.Context, path string) error {
	if !s.stamp || s.format.Stamp != nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	authority, err := s.authority()
	if err != nil {
		return err
	}
	token, err := authority.StampDigest(ctx, h.Sum(nil))
	if err != nil {
		return s.unstamped(err)
	}
	return os.WriteFile(s.out+stampSuffix, token, 0o644)
}

// authority is the server's.
func (s *signing) authority() (*timestamp.Client, error) {
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return &timestamp.Client{URL: s.client.base + timestamp.Path, HTTP: s.client.http, Roots: roots}, nil
}

// unstamped lets a server pass that has no authority, and says so. Any other
// failure is one: who has an authority wants its time stamps.
func (s *signing) unstamped(err error) error {
	if !errors.Is(err, timestamp.ErrNoAuthority) {
		return err
	}
	fmt.Fprintf(s.app.err, "There is no time stamp: %v\n", err)
	return nil
}
