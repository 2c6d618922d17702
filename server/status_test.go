package server

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// TestStatusDoor looks at what the door itself decides: who gets to which
// part, by paths that must not be cleaned.
func TestStatusDoor(t *testing.T) {
	c := initialized(t, Plan{})
	url := "http://" + started(t, c).Addrs()["status"]
	malformed := []byte{0x30, 3, 0x0a, 1, 1}
	for path, want := range map[string]int{
		"/ocsp": 200, "/ocsp/": 200, "/ocsp//": 200, "/ocsp/a//b": 200, "/ocsp/../x": 200, "/ocsp/%2B%2f": 200,
		"/": 404, "/ocspx": 404, "/x/../ocsp": 307, "/nothing": 404,
	} {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		r, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != want || want == 200 && !bytes.Equal(body, malformed) {
			t.Errorf("%s: %d %x, want %d", path, r.StatusCode, body, want)
		}
	}
}
