package api

import (
	"io"
	"mime/multipart"

	"github.com/touchmark/touchmark/vetting"
)

var (
	ParseCursor = parseCursor
	Cursor      = cursor
	ParseCSR    = parseCSR
)

// ReadUpload reads a form as the server does, from the bytes alone.
func ReadUpload(r io.Reader, boundary string) (format vetting.ManifestFormat, file []byte, sigs [][]byte, err error) {
	u := &upload{parts: multipart.NewReader(r, boundary), body: r}
	if format, err = u.manifest(); err != nil {
		return "", nil, nil, err
	}
	if file, err = io.ReadAll(u); err != nil {
		return "", nil, nil, err
	}
	sigs, err = u.allSignatures()
	return format, file, sigs, err
}
