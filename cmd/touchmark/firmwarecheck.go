package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

// verify checks the signed file by a second verifier of ours and by the
// programs that are installed, and has the server keep that.
func (s *signing) verify(ctx context.Context, path string) (raw []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	signed, err := firmwaresign.File(f)
	if err != nil {
		return nil, err
	}
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	sum := hashOf(signed)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	if err := s.format.Check(s.part.Parameters, catalogue.Output{Source: s.file, Signed: signed, Signers: s.signers, Roots: roots}); err != nil {
		return nil, fmt.Errorf("what was signed does not verify, and is thrown away: %w", err)
	}
	checks, err := outside{s.format, s.part.Parameters, s.path, path, root, s.signers[0].Public}.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("what was signed is thrown away: %w", err)
	}
	have := <-sum
	if have.err != nil {
		return nil, have.err
	}
	in := api.ChecksInput{Signed: have.File, Checks: append([]release.Check{{Program: "touchmark", Version: version}}, checks...)}
	var out json.RawMessage
	err = s.client.api(ctx, http.MethodPost, "/artefacts/"+strconv.FormatInt(s.part.ID, 10)+"/checks", in, &out)
	return out, err
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
