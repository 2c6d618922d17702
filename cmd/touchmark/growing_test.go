package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A file's reader gets what is written when it is written, and its end when it
// has one.
func TestGrowing(t *testing.T) {
	g, err := newGrowing(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.remove()
	content := make([]byte, 300_000)
	rand.Read(content)
	read := make(chan int64)
	go func() {
		defer close(read)
		for at := int64(0); at < int64(len(content)); at += 1000 {
			part := make([]byte, 1000)
			if _, err := g.ReadAt(part, at); err != nil || !bytes.Equal(part, content[at:at+1000]) {
				t.Errorf("at %d: %v", at, err)
			}
			read <- at
		}
	}()
	sum := hashOf(g)
	for at := 0; at < len(content); at += 1000 {
		if _, err := g.Write(content[at : at+1000]); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != int64(at) {
			t.Fatalf("read at %d before %d", got, at)
		}
	}
	select {
	case early := <-sum:
		t.Errorf("hashed before the end: %+v", early)
	default:
	}
	g.end(nil)
	if got := <-sum; got.err != nil || got.Size != int64(len(content)) || got.SHA256 != fmt.Sprintf("%x", sha256.Sum256(content)) || g.Size() != got.Size {
		t.Errorf("got %+v", got)
	}
	if _, err := g.ReadAt(make([]byte, 10), g.Size()); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %v", err)
	}
}

// A file that is never finished ends those who read it, and goes.
func TestGrowingIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	g, err := newGrowing(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	sum := hashOf(g)
	if _, err := g.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	g.end(errPending)
	if got := <-sum; !errors.Is(got.err, errPending) {
		t.Errorf("got %+v", got)
	}
	g.remove()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
