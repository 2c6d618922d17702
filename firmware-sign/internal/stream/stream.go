// Package stream copies a large file and hashes it at the same time.
package stream

import (
	"errors"
	"io"
)

// chunk is how much is read at once, in bytes, and ahead how many chunks may
// wait for the hash.
const (
	chunk = 512 << 10
	ahead = 4
)

// ErrChanged says that a file has not the length any more that it had when it
// was opened.
var ErrChanged = errors.New("the file changed while it was read: sign it when nothing writes to it")

// Copy reads src to its end, which must be after size bytes, and writes it to
// h, a hash that cannot fail, and to out, unless that is nil. One processor
// hashes, another one reads and writes.
func Copy(h, out io.Writer, src io.Reader, size int64) error {
	if out == nil {
		out = io.Discard
	}
	free, full, hashed := make(chan []byte, ahead), make(chan []byte, ahead), make(chan struct{})
	for range ahead {
		free <- make([]byte, chunk)
	}
	go func() {
		defer close(hashed)
		for buf := range full {
			_, _ = h.Write(buf)
			free <- buf[:chunk]
		}
	}()
	n, err := feed(out, full, free, src)
	close(full)
	<-hashed
	if err == nil && n != size {
		err = ErrChanged
	}
	return err
}

// feed hands each chunk to the hash and writes it meanwhile; it takes another
// one only after that, so nobody overwrites what is still read.
func feed(out io.Writer, full chan<- []byte, free <-chan []byte, src io.Reader) (n int64, err error) {
	for {
		buf := <-free
		k, err := io.ReadFull(src, buf)
		n += int64(k)
		full <- buf[:k]
		if _, err := out.Write(buf[:k]); err != nil {
			return n, err
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}
