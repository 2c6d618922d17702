package esp32

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"slices"
)

// Verify checks an image as a chip does whose fuses hold the digests of the
// keys, and more strictly: all the keys have signed it in this order, and
// nothing else is in the sector of signatures. It shares nothing with the code
// that signs but the numbers of the format.
func Verify(file *io.SectionReader, keys ...crypto.PublicKey) error {
	if len(keys) == 0 || len(keys) > maxBlocks {
		return fmt.Errorf("%d keys are given to verify the image with: it has one to %d", len(keys), maxBlocks)
	}
	size := file.Size() - sectorLen
	if size < sectorLen || size%sectorLen != 0 || size > maxImage {
		return fmt.Errorf("the file is %d bytes long: a signed image fills sectors of %d, at least 2: it was not signed, or cut off", file.Size(), sectorLen)
	}
	sector := make([]byte, sectorLen)
	if _, err := file.ReadAt(sector, size); err != nil {
		return fmt.Errorf("read the last sector: %w", err)
	}
	digests, err := digestsOf(io.NewSectionReader(file, 0, size))
	if err != nil {
		return err
	}
	for i, key := range keys {
		if err := verifyBlock(sector[i*blockLen:(i+1)*blockLen], digests, key); err != nil {
			return fmt.Errorf("signature block %d: %w", i, err)
		}
	}
	if rest := sector[len(keys)*blockLen:]; !filledWith(0xff, rest) {
		return fmt.Errorf("after %d signature blocks the sector is not empty: another key signed, or something was added", len(keys))
	}
	return nil
}

// digestsOf are those with SHA-256 and SHA-384.
func digestsOf(image io.Reader) (map[byte][]byte, error) {
	short, long := crypto.SHA256.New(), crypto.SHA384.New()
	if _, err := io.Copy(io.MultiWriter(short, long), image); err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	return map[byte][]byte{0: short.Sum(nil), 1: long.Sum(nil)}, nil
}

func filledWith(c byte, b []byte) bool { return bytes.Count(b, []byte{c}) == len(b) }

func verifyBlock(b []byte, digests map[byte][]byte, key crypto.PublicKey) error {
	if b[0] != 0xe7 {
		return fmt.Errorf("it begins with 0x%02x, not with 0xe7: it is not there", b[0])
	}
	if got, want := binary.LittleEndian.Uint32(b[1196:]), crc32.ChecksumIEEE(b[:1196]); got != want {
		return fmt.Errorf("its checksum is %08x, but its content has %08x", got, want)
	}
	digest := digests[b[2]]
	if digest == nil || b[3] != 0 || !filledWith(0, b[1200:]) {
		return errors.New("it names an unknown hash, or is not zero where it should be")
	}
	if stated := b[4 : 4+len(digest)]; !bytes.Equal(stated, digest) {
		return fmt.Errorf("it is over an image with digest %x, but this one has %x", stated, digest)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		return verifyRSA(b, digest, key)
	case *ecdsa.PublicKey:
		return verifyECDSA(b, digest, key)
	}
	return fmt.Errorf("chips check no signature by a %T", key)
}

var errSignature = errors.New("the signature is not good")

// number reads one whose lowest byte comes first.
func number(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func verifyRSA(b, digest []byte, key *rsa.PublicKey) error {
	if b[1] != 2 || b[2] != 0 || key.Size() != 384 {
		return fmt.Errorf("it is of version %d: it is not by an RSA-3072 key", b[1])
	}
	n, e, r, m := number(b[36:420]), binary.LittleEndian.Uint32(b[420:]), number(b[424:808]), binary.LittleEndian.Uint32(b[808:])
	if n.Cmp(key.N) != 0 || int(e) != key.E {
		return errors.New("it is by another key")
	}
	// r is 2^6144 mod n; n·m is -1 mod 2^32.
	want := new(big.Int).Mod(new(big.Int).SetBit(new(big.Int), 6144, 1), n)
	if r.Cmp(want) != 0 || uint32(n.Uint64())*m != 0xffffffff {
		return errors.New("the numbers for the chip's multiplier are wrong: it would refuse the signature")
	}
	sig := number(b[812:1196]).FillBytes(make([]byte, 384))
	if rsa.VerifyPSS(key, crypto.SHA256, digest, sig, &rsa.PSSOptions{SaltLength: 32}) != nil {
		return errSignature
	}
	return nil
}

func verifyECDSA(b, digest []byte, key *ecdsa.PublicKey) error {
	size := key.Params().BitSize / 8
	curve := map[int]byte{32: 2, 48: 3}[size]
	at := 4 + len(digest)
	if b[1] != 3 || curve == 0 || b[at] != curve || len(digest) != size {
		return fmt.Errorf("it is of version %d and curve %d: it is not by a key on %s", b[1], b[at], key.Params().Name)
	}
	numbers := b[at+1:]
	point, err := key.Bytes()
	if err != nil {
		return err
	}
	if number(numbers[:size]).Cmp(new(big.Int).SetBytes(point[1:1+size])) != 0 || number(numbers[size:2*size]).Cmp(new(big.Int).SetBytes(point[1+size:])) != 0 {
		return errors.New("it is by another key")
	}
	if !filledWith(0, b[at+1+4*size:1196]) {
		return errors.New("it is not zero where it should be")
	}
	if !ecdsa.Verify(key, digest, number(numbers[2*size:3*size]), number(numbers[3*size:4*size])) {
		return errSignature
	}
	return nil
}
