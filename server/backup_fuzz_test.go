package server

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"testing"
)

// Whatever is given as a backup is read to its end or refused; no file of it
// leaves the data directory.
func FuzzReadBackup(f *testing.F) {
	f.Add("backup.json", []byte(`{"form":1}`), "files/ca/root.crt", []byte("x"), "rows/000001", []byte("{\"table\":\"sites\",\"columns\":[\"id\"],\"rows\":1}\n[1]\n"))
	f.Add("backup.json", []byte(`{"form":1}`), "files/../../etc/passwd", []byte("x"), "end.json", []byte(`{"rows":{"sites":7}}`))
	f.Add("backup.json", []byte(`{"form":999}`), "x", []byte(nil), "y", []byte(nil))
	f.Fuzz(func(t *testing.T, n1 string, d1 []byte, n2 string, d2 []byte, n3 string, d3 []byte) {
		var packed bytes.Buffer
		gz := gzip.NewWriter(&packed)
		tw := tar.NewWriter(gz)
		for _, p := range []struct {
			name string
			data []byte
		}{{n1, d1}, {n2, d2}, {n3, d3}} {
			if tw.WriteHeader(&tar.Header{Name: p.name, Size: int64(len(p.data)), Mode: 0o600}) != nil {
				return // no such name in a tar file
			}
			_, _ = tw.Write(p.data)
		}
		_, _ = tw.Close(), gz.Close()
		b, err := openBackup(&packed)
		if err != nil {
			return
		}
		parcel, err := b.files(func(name string, _ fs.FileMode, _ []byte) error {
			if !fs.ValidPath(name) && name != "" && (name[0] == '/' || bytes.Contains([]byte(name), []byte("/../"))) {
				t.Errorf("the file %q was let through", name)
			}
			return nil
		})
		for err == nil && parcel != nil {
			parcel, err = b.nextParcel()
		}
	})
}
