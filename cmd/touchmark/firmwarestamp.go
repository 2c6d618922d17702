package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
)

// stampSuffix is what the name of a time stamp adds to that of the file.
const stampSuffix = ".tst"

// writeStamped writes a signed file that holds a time stamp over its signature,
// which comes after the signing: it is finished elsewhere first.
func (s *signing) writeStamped(ctx context.Context, out io.Writer, made firmwaresign.Format, sign func([]firmwaresign.ToSign) ([][]byte, error)) error {
	f, err := os.CreateTemp(filepath.Dir(s.out), filepath.Base(s.out)+".unstamped-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := firmwaresign.Write(f, made, s.file, sign); err != nil {
		return err
	}
	authority, err := s.authority()
	if err != nil {
		return err
	}
	if err := s.format.Stamp.Put(f, func(content []byte) ([]byte, error) { return authority.Stamp(ctx, content) }); err != nil {
		if err := s.unstamped(err); err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}

// stampFile writes a time stamp over a signed file that cannot hold one.
func (s *signing) stampFile(ctx context.Context, signed release.File) error {
	if !s.stamp || s.format.Stamp != nil {
		return nil
	}
	digest, err := hex.DecodeString(signed.SHA256)
	if err != nil {
		return err
	}
	authority, err := s.authority()
	if err != nil {
		return err
	}
	token, err := authority.StampDigest(ctx, digest)
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
