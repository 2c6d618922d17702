package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

// check verifies the signed file by a second verifier of ours, beside whoever
// writes it, and hashes it.
func (s *signing) check(signed *growing) (<-chan hashed, error) {
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	digested := make(chan hashed, 1)
	if !s.format.Digests {
		digested = hashOf(signed)
	}
	out := catalogue.Output{Source: s.file, Signed: signed, Signers: s.signers, Roots: roots, ContentKey: s.contentKey, Digested: func(sha256 []byte) {
		digested <- hashed{File: release.File{Size: signed.Size(), SHA256: hex.EncodeToString(sha256)}}
	}}
	parameters, done := s.part.Parameters, make(chan hashed, 1) // s.part becomes what the server has
	go func() {
		if err := s.format.Check(parameters, out); err != nil {
			done <- hashed{err: fmt.Errorf("what was signed does not verify, and is thrown away: %w", err)}
			return
		}
		done <- <-digested
	}()
	return done, nil
}

// verify has the programs that are installed verify the signed file, too, and
// the server keep who did. The file is what is left of the signed one: all of
// it, or the part that all devices share.
func (s *signing) verify(ctx context.Context, path string, signed hashed) (raw []byte, file release.File, err error) {
	if signed.err != nil {
		return nil, file, signed.err
	}
	root, err := s.root()
	if err != nil {
		return nil, file, err
	}
	checks, err := outside{s.format, s.part.Parameters, s.path, path, root, s.signers[0].Public}.check(ctx)
	if err != nil {
		return nil, file, fmt.Errorf("what was signed is thrown away: %w", err)
	}
	in := api.ChecksInput{Signed: signed.File, Checks: append([]release.Check{{Program: "touchmark", Version: version}}, checks...)}
	if s.format.Encrypting(s.part.Parameters) != nil {
		return s.keepContent(ctx, path, in)
	}
	var out json.RawMessage
	err = s.client.api(ctx, http.MethodPost, artefactPath(s.part.ID)+"/checks", in, &out)
	return out, in.Signed, err
}

// root is the root certificate that signers' certificates chain to.
func (s *signing) root() ([]byte, error) {
	p, err := s.app.resolve()
	if err != nil {
		return nil, err
	}
	if p.CA == "" {
		return nil, usagef("name the root certificate with --ca: what was signed is verified with it")
	}
	return os.ReadFile(p.CA)
}

// outside is a signed file that programs of others verify.
type outside struct {
	format         *catalogue.Format
	parameters     map[string]string
	source, signed string
	root           []byte // PEM; nil where the format needs none
	public         crypto.PublicKey
}

// check has the programs that are installed verify the file.
func (o outside) check(ctx context.Context) (list []release.Check, err error) {
	for _, p := range o.format.Checkers(o.parameters) {
		if _, err := exec.LookPath(p.Name); err != nil {
			continue
		}
		files, remove, err := o.files(p)
		if err != nil {
			return nil, err
		}
		out, err := exec.CommandContext(ctx, p.Name, p.Check(files)...).CombinedOutput()
		remove()
		if err != nil {
			return nil, fmt.Errorf("%s does not accept it: %w\n%s", p.Name, err, bytes.TrimSpace(out))
		}
		list = append(list, release.Check{Program: p.Name, Version: versionOf(ctx, p)})
	}
	return list, nil
}

// files writes what a program reads.
func (o outside) files(p catalogue.Program) (files catalogue.Files, remove func(), err error) {
	dir, err := os.MkdirTemp("", "touchmark-verify-")
	if err != nil {
		return files, nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	spki, err := x509.MarshalPKIXPublicKey(o.public)
	if err == nil {
		files = catalogue.Files{Source: o.source, Signed: o.signed, Root: filepath.Join(dir, "root.pem"), PublicKey: filepath.Join(dir, "key.pem"), Config: filepath.Join(dir, "config")}
		err = os.WriteFile(files.PublicKey, pemOf("PUBLIC KEY", spki), 0o600)
	}
	if err == nil {
		err = os.WriteFile(files.Root, o.root, 0o600)
	}
	if err == nil && p.Config != nil {
		err = os.WriteFile(files.Config, []byte(p.Config(files)), 0o600)
	}
	if err == nil && p.Config != nil {
		err = os.WriteFile(files.Config, []byte(p.Config(files)), 0o600)
	}
	if err != nil {
		remove()
	}
	return files, remove, err
}

// versionOf is the first line of what a program says of its version.
func versionOf(ctx context.Context, p catalogue.Program) string {
	out, err := exec.CommandContext(ctx, p.Name, p.Version...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line[:min(len(line), 200)]
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
