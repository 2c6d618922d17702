package firmwaresign

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Format is a kind of signed file, with the parameters of one signing. Its
// methods hold no more than a few megabytes in memory, however large the file.
type Format interface {
	// Prepare reads the file once, from its beginning to its end, and checks
	// that it can be signed. Meanwhile it writes to out what the signed file
	// begins with; out may be nil, if only what is to be signed is of interest.
	//
	// What is to be signed follows from the file and the parameters alone:
	// who prepares again, later and on another machine, gets the same. So a
	// signature that was asked for can be collected by preparing once more.
	Prepare(file *io.SectionReader, out io.Writer) (Draft, error)
}

// Draft is a file that lacks its signatures.
type Draft interface {
	// ToSign are the signatures that are wanted, in the order of Finish.
	ToSign() []ToSign
	// Finish writes what follows after the part that Prepare wrote. The
	// signatures have been verified.
	Finish(out io.Writer, signatures [][]byte) error
}

// Create writes the signed form of a file under path, which gets its name only
// when it is whole; what had that name is replaced. It is not forced to the
// disk: a build can be made again. The function ask gets what is to be
// signed, and returns the signatures in the same order: from a key at hand
// ([With]), or from a server. None is used before it has been verified.
func Create(path string, f Format, file *io.SectionReader, ask func([]ToSign) ([][]byte, error)) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("create the signed file: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails, as it should, once it is renamed
	err = Write(tmp, f, file, ask)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Write is Create without a file name. What it has written when it fails is
// of no use.
func Write(out io.Writer, f Format, file *io.SectionReader, ask func([]ToSign) ([][]byte, error)) error {
	draft, err := f.Prepare(file, out)
	if err != nil {
		return err
	}
	wanted := draft.ToSign()
	signatures, err := ask(wanted)
	if err != nil {
		return err
	}
	if len(signatures) != len(wanted) {
		return fmt.Errorf("%d signatures were wanted, but %d came", len(wanted), len(signatures))
	}
	for i, w := range wanted {
		if err := w.Verify(signatures[i]); err != nil {
			return fmt.Errorf("signature %d of %d: %w", i+1, len(wanted), err)
		}
	}
	return draft.Finish(out, signatures)
}

// With answers Create with keys at hand: each signature by the key that it is
// wanted from.
func With(keys ...crypto.Signer) func([]ToSign) ([][]byte, error) {
	return func(wanted []ToSign) ([][]byte, error) {
		var signatures [][]byte
		for i, w := range wanted {
			sig, err := signWith(w, keys)
			if err != nil {
				return nil, fmt.Errorf("signature %d of %d: %w", i+1, len(wanted), err)
			}
			signatures = append(signatures, sig)
		}
		return signatures, nil
	}
}

func signWith(w ToSign, keys []crypto.Signer) ([]byte, error) {
	err := error(&KeyError{"no key was given"})
	for _, key := range keys {
		var sig []byte
		if sig, err = w.Sign(key); err == nil {
			return sig, nil
		}
	}
	return nil, err
}

// File is a whole open file, as the formats read it.
func File(f *os.File) (*io.SectionReader, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: only those can be signed", f.Name())
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}
