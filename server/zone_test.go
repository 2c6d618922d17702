package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a small DNS server. It answers questions for addresses from its map,
// and those for TXT from the files of its directory, whose lines are the
// records.
type zone struct {
	at  string // ADDRESS:PORT
	dir string

	mu        sync.Mutex
	addresses map[string]func(asked int) string // by name, without the dot at the end
	asked     map[string]int
}

func newZone(t *testing.T) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	z := &zone{at: conn.LocalAddr().String(), dir: t.TempDir(), addresses: map[string]func(int) string{}, asked: map[string]int{}}
	go z.serve(conn)
	return z
}

// is gives a name an address.
func (z *zone) is(name, address string) { z.turns(name, func(int) string { return address }) }

// turns gives a name addresses by how often it was asked for before.
func (z *zone) turns(name string, address func(asked int) string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addresses[name] = address
}

func (z *zone) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		if answer, err := z.answer(m).Pack(); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func (z *zone) answer(m dnsmessage.Message) *dnsmessage.Message {
	q := m.Questions[0]
	out := &dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	add := func(body dnsmessage.ResourceBody) {
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: body})
	}
	switch q.Type {
	case dnsmessage.TypeTXT:
		text, _ := os.ReadFile(filepath.Join(z.dir, name))
		for line := range strings.Lines(string(text)) {
			add(&dnsmessage.TXTResource{TXT: []string{strings.TrimSpace(line)}})
		}
	case dnsmessage.TypeA:
		if a := z.address(name); a != nil {
			add(&dnsmessage.AResource{A: [4]byte(a)})
		}
	case dnsmessage.TypeAAAA:
		if z.has(name) {
			return out
		}
	}
	if len(out.Answers) == 0 {
		out.RCode = dnsmessage.RCodeNameError
	}
	return out
}

func (z *zone) has(name string) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.addresses[name] != nil
}

func (z *zone) address(name string) net.IP {
	z.mu.Lock()
	defer z.mu.Unlock()
	f := z.addresses[name]
	if f == nil {
		return nil
	}
	n := z.asked[name]
	z.asked[name]++
	return net.ParseIP(f(n)).To4()
}
