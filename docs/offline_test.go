package docs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// exampleCA has the key of the example in offline-status.md.
func exampleCA(t *testing.T) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x2a}, 32))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestOfflineStatusExample holds the example of offline-status.md to the code,
// and to a reader that was written from that page.
func TestOfflineStatusExample(t *testing.T) {
	ca, key := exampleCA(t)
	notGood := map[byte]bool{3: true, 6: true}
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	file, err := offline.Build(t.Context(), ca, key, offline.Plan{Number: 1, ThisUpdate: at, NextUpdate: at.Add(48 * time.Hour), CoversUntil: at.Add(-10 * time.Minute)},
		func(_ context.Context, each func([]byte, bool) error) error {
			for serial := byte(1); serial <= 8; serial++ {
				if err := each([]byte{serial}, !notGood[serial]); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if got := exampleOf(t); !bytes.Equal(got, file) {
		t.Errorf("the example is not what the code writes:\n%s", dump(file))
	}
	for serial := byte(1); serial <= 8; serial++ {
		if got := strangersAnswer(file, []byte{serial}); got != notGood[serial] {
			t.Errorf("certificate %d: by the page it is not good: %v", serial, got)
		}
	}
}

// TestOfflineStatusByOpenssl verifies a signature as the page says.
func TestOfflineStatusByOpenssl(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	file, err := offline.Build(t.Context(), ca, key, offline.Plan{Number: 1, ThisUpdate: at, NextUpdate: at.Add(time.Hour), CoversUntil: at},
		func(context.Context, func([]byte, bool) error) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	steps := blocks(t, "offline-status.md")[0]
	verify := func(file []byte) (out string, err error) {
		dir := t.TempDir()
		crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "device-ca.filter"), file, 0o600), os.WriteFile(filepath.Join(dir, "device-ca.crt"), crt, 0o600)); err != nil {
			t.Fatal(err)
		}
		return script(t, dir, dir, steps)
	}
	if out, err := verify(file); err != nil || !strings.Contains(out, "Verified OK") {
		t.Errorf("%v\n%s", err, out)
	}
	file[60] ^= 1
	if out, err := verify(file); err == nil {
		t.Errorf("altered, it is verified:\n%s", out)
	}
}

var hexBlock = regexp.MustCompile("(?s)```hex\n(.*?)```")

// exampleOf is the file that the page shows.
func exampleOf(t *testing.T) []byte {
	t.Helper()
	m := hexBlock.FindStringSubmatch(read(t, "offline-status.md"))
	if m == nil {
		t.Fatal("offline-status.md has no example")
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(m[1]), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dump(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		fmt.Fprintf(&out, "%x\n", b[:n])
		b = b[n:]
	}
	return out.String()
}

// TestOfflineStatusByThePage asks a reader that was written from the page
// alone about larger files: many shards, most not good, a delta.
func TestOfflineStatusByThePage(t *testing.T) {
	ca, key := exampleCA(t)
	at := time.Now()
	build := func(number uint64, base *offline.Filter, n int, notGood func(int) bool) []byte {
		file, err := offline.Build(t.Context(), ca, key, offline.Plan{Number: number, ThisUpdate: at, NextUpdate: at.Add(time.Hour), CoversUntil: at, Base: base},
			func(_ context.Context, each func([]byte, bool) error) error {
				for i := range n {
					if err := each(big.NewInt(int64(i+1)).Bytes(), !notGood(i)); err != nil {
						return err
					}
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, period := range []int{2, 3, 50} {
		before := func(i int) bool { return i%period != 1 }
		now := func(i int) bool { return i%period != 1 && i%11 != 0 }
		base := build(1, nil, 20_000, before)
		opened, err := offline.Open(base, ca)
		if err != nil {
			t.Fatal(err)
		}
		delta := build(2, opened, 25_000, now)
		wrong := 0
		for i := range 25_000 {
			serial := big.NewInt(int64(i + 1)).Bytes()
			says := strangersAnswer(base, serial)
			if i < 20_000 && says != before(i) || says != strangersAnswer(delta, serial) != now(i) {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("period %d: %d answers are wrong by the page", period, wrong)
		}
	}
}

// strangersAnswer reads a file as offline-status.md says, and shares no line
// with package offline.
func strangersAnswer(file, serial []byte) bool {
	sum := sha256.Sum256(append(bytes.Clone(file[136:152]), serial...))
	a, b := word(sum[:]), word(sum[8:])
	fingerprint := splitmix(a ^ (b<<32 | b>>32))
	first, rest := strangersTable(1, file[152:], a, b)
	second, _ := strangersTable(2, rest, a, b)
	listed := len(second) == 1 && second[0] == 1 && first != nil
	for i, bit := range first {
		listed = listed && bit == fingerprint>>i&1
	}
	return listed != (file[19] == 1)
}

// strangersTable gives a key's bit in each column, nil where there are none to
// agree with, and what follows the table.
func strangersTable(number uint64, t []byte, a, b uint64) (found []uint64, rest []byte) {
	columns, shards := int(binary.LittleEndian.Uint32(t)), uint64(binary.LittleEndian.Uint32(t[4:]))
	directory, body := t[8:8+4*shards], t[8+4*shards:]
	if columns == 0 {
		found = []uint64{}
	}
	mine, _ := bits.Mul64(a, shards)
	for i := range shards {
		words := int(binary.LittleEndian.Uint16(directory[4*i:]))
		size := 8 * words * columns
		if i == mine && words > 0 {
			s := (256*number + uint64(directory[4*i+2])) * 0x9e3779b97f4a7c15
			start, _ := bits.Mul64(splitmix(b+s), uint64(64*words-63))
			row := splitmix(a+s) | 1
			for c := range columns {
				found = append(found, strangersBit(body[8*words*c:], int(start), row))
			}
		}
		body = body[size:]
	}
	return found, body
}

func strangersBit(column []byte, start int, row uint64) (parity uint64) {
	for j := range 64 {
		if row>>j&1 == 1 {
			parity ^= uint64(column[(start+j)/8]) >> ((start + j) % 8) & 1
		}
	}
	return parity
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func splitmix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
