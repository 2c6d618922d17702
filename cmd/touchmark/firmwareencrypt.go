package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

func artefactPath(id int64) string { return "/artefacts/" + strconv.FormatInt(id, 10) }

// suffix is what the name of the output adds to that of the file.
func (s *signing) suffix() string {
	if s.format.Encrypting(s.part.Parameters) != nil {
		return catalogue.EncryptedSuffix
	}
	return s.format.Suffix
}

// split tells the part of a signed file that all devices share from what is
// secret of it.
func (s *signing) split(path string) (shared release.File, secret []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return shared, nil, err
	}
	defer f.Close()
	signed, err := firmwaresign.File(f)
	if err != nil {
		return shared, nil, err
	}
	size, secret, err := s.format.Encrypting(s.part.Parameters).Split(signed, s.contentKey)
	if err != nil {
		return shared, nil, err
	}
	sum := <-hashOf(io.NewSectionReader(signed, 0, size))
	return sum.File, secret, sum.err
}

// keepContent leaves of a file what all devices share, and hands the secret in,
// sealed. The file gets its name only when the server has the secret: nobody
// could open it otherwise.
func (s *signing) keepContent(ctx context.Context, path string, in api.ChecksInput) (raw []byte, shared release.File, err error) {
	shared, secret, err := s.split(path)
	if err != nil {
		return nil, shared, err
	}
	if err := os.Truncate(path, shared.Size); err != nil {
		return nil, shared, err
	}
	var key content.WrappingKey
	if err := s.client.api(ctx, http.MethodGet, "/firmware-content-key", nil, &key); err != nil {
		return nil, shared, err
	}
	in.Signed = shared
	sealed, err := key.Seal(secret, content.Of{Artefact: s.part.ID, SHA256: shared.SHA256})
	if err != nil {
		return nil, shared, err
	}
	var out json.RawMessage
	err = s.client.api(ctx, http.MethodPost, artefactPath(s.part.ID)+"/content", api.ContentInput{ChecksInput: in, Sealed: *sealed}, &out)
	return out, shared, err
}
