package server

import "testing"

// The address that init writes down is one that the server's certificate is
// for.
func TestServerURL(t *testing.T) {
	for listen, want := range map[string]string{
		":8444": "https://tm.example.com:8444", "0.0.0.0:8444": "https://tm.example.com:8444", "[::]:1": "https://tm.example.com:1",
		"127.0.0.1:8444": "https://tm.example.com:8444", "192.0.2.7:8444": "https://192.0.2.7:8444", "[2001:db8::1]:2": "https://[2001:db8::1]:2",
	} {
		c := Default()
		c.Names, c.API.Listen = []string{"tm.example.com", "192.0.2.7", "2001:db8::1"}, listen
		if got := serverURL(c); got != want {
			t.Errorf("listening on %s: %s, want %s", listen, got, want)
		}
	}
}
