package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// madeUp is the nth of the records that a large factory would hand in.
func madeUp(n int) vetting.Record {
	return vetting.Record{
		Row:          int64(n + 1),
		Identity:     vetting.Identity{Serial: fmt.Sprintf("TH-%09d", n), MAC: fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", byte(n>>24), byte(n>>16), byte(n>>8), byte(n))},
		BootstrapKey: fingerprint("bootstrap", n),
		Made: vetting.Manufacturing{HardwareRevision: "A1", Line: "line-4", Rig: "rig-7",
			Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second / 10)},
	}
}

// fingerprint is a made-up key's.
func fingerprint(of string, n int) vetting.Fingerprint {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(of), uint64(n)))
}

// factoryFile is a manifest of the records from one to another that is made while it is read, so
// that no run has to hold it.
type factoryFile struct {
	next, to int
	lines    bytes.Buffer
	out      *manifest.Writer
}

func newFactoryFile(from, to int) *factoryFile {
	f := &factoryFile{next: from, to: to}
	f.out = manifest.NewWriter(&f.lines)
	return f
}

func (f *factoryFile) Read(p []byte) (int, error) {
	for f.lines.Len() < len(p) && f.next < f.to {
		if err := f.out.Write(madeUp(f.next)); err != nil {
			return 0, err
		}
		f.next++
	}
	if f.lines.Len() == 0 {
		return 0, io.EOF
	}
	return f.lines.Read(p)
}
