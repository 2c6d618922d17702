package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// replayed is a universe that asks another once and then tells the same from
// a temporary file, so that the database is read once. done gives the file up.
func replayed(dir string, u offline.Universe) (replay offline.Universe, done func()) {
	s := &spool{}
	return func(ctx context.Context, each func([]byte, bool) error) error {
		if s.file != nil {
			return s.play(ctx, each)
		}
		return s.record(ctx, dir, u, each)
	}, s.close
}

// spool is a file of entries: a byte with the length of the serial number and
// the standing, and the serial number.
type spool struct{ file *os.File }

const standingBit = 0x80

func (s *spool) record(ctx context.Context, dir string, u offline.Universe, each func([]byte, bool) error) (err error) {
	file, err := os.CreateTemp(dir, "touchmark-offline-")
	if err != nil {
		return err
	}
	s.file = file
	// Without a name it goes with the process, however that ends.
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<16)
	err = u(ctx, func(serial []byte, good bool) error {
		if len(serial) >= standingBit {
			return fmt.Errorf("the serial number %x is too long", serial)
		}
		head := byte(len(serial))
		if good {
			head |= standingBit
		}
		if err := w.WriteByte(head); err != nil {
			return err
		}
		if _, err := w.Write(serial); err != nil {
			return err
		}
		return each(serial, good)
	})
	return errors.Join(err, w.Flush())
}

func (s *spool) play(ctx context.Context, each func([]byte, bool) error) error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.file, 1<<16)
	var room [standingBit]byte
	for n := 0; ; n++ {
		head, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n%4096 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		serial := room[:head&^standingBit]
		if _, err := io.ReadFull(r, serial); err != nil {
			return err
		}
		if err := each(serial, head&standingBit != 0); err != nil {
			return err
		}
	}
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name: nothing is left of it
	}
}
