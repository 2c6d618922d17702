package manifest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
)

// partSize is how much of a file goes into one stored part, in bytes before
// compression. Each part is a gzip file of its own (RFC 1952).
const partSize = 1 << 20

// partWriter cuts a file into compressed parts and stores them.
type partWriter struct {
	ctx   context.Context
	store Store
	id    int64
	seq   int
	raw   []byte
	gz    *gzip.Writer
}

func newPartWriter(ctx context.Context, store Store, id int64) (*partWriter, error) {
	gz, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	return &partWriter{ctx: ctx, store: store, id: id, raw: make([]byte, 0, partSize), gz: gz}, nil
}

func (w *partWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), partSize-len(w.raw))
		w.raw = append(w.raw, p[:k]...)
		n, p = n+k, p[k:]
		if len(w.raw) == partSize {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush stores what is left over; it ends the file.
func (w *partWriter) flush() error {
	if len(w.raw) == 0 {
		return nil
	}
	var b bytes.Buffer
	w.gz.Reset(&b)
	if _, err := w.gz.Write(w.raw); err != nil {
		return fmt.Errorf("compress a part of the manifest: %w", err)
	}
	if err := w.gz.Close(); err != nil {
		return fmt.Errorf("compress a part of the manifest: %w", err)
	}
	w.raw = w.raw[:0]
	w.seq++
	if err := w.store.AddManifestPart(w.ctx, w.id, w.seq-1, b.Bytes()); err != nil {
		return fmt.Errorf("store a part of the manifest: %w", err)
	}
	return nil
}

// partReader reads a stored file. Close must be called.
type partReader struct {
	*io.PipeReader
	done chan struct{}
}

func readParts(ctx context.Context, store Store, id int64) *partReader {
	pr, pw := io.Pipe()
	r := &partReader{pr, make(chan struct{})}
	go func() {
		defer close(r.done)
		// A nil error becomes io.EOF.
		pw.CloseWithError(copyParts(ctx, pw, store, id))
	}()
	return r
}

func copyParts(ctx context.Context, w io.Writer, store Store, id int64) (err error) {
	defer contain(&err)
	return store.ManifestParts(ctx, id, func(data []byte) error { return unpack(w, data) })
}

// Close stops the reading and waits until the store is free of it.
func (r *partReader) Close() error {
	err := r.PipeReader.Close()
	<-r.done
	return err
}

var errPart = errors.New("a stored part of the manifest is longer than it was written")

func unpack(w io.Writer, data []byte) error {
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("unpack a stored part of the manifest: %w", err)
	}
	n, err := io.Copy(w, io.LimitReader(gz, partSize+1))
	if err != nil {
		return fmt.Errorf("unpack a stored part of the manifest: %w", err)
	}
	if n > partSize {
		return errPart
	}
	return gz.Close()
}
