package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"
)

// timedGuest is a connection of a guest's with the client's end of it. armed
// receives what its timers are set to.
func timedGuest(t *testing.T) (g *guest, client net.Conn, armed chan time.Time) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	g, armed = newGuest(nil, server, netip.Prefix{}), make(chan time.Time, 100)
	for _, d := range []*deadline{&g.reads, &g.writes} {
		set := d.set
		d.set = func(at time.Time) error { armed <- at; return set(at) }
	}
	return g, client, armed
}

const aMoment = 10 * time.Millisecond

func TestDeadlineWhileReading(t *testing.T) {
	g, client, armed := timedGuest(t)
	ended := make(chan error)
	read := func() {
		_, err := g.Read(make([]byte, 1))
		ended <- err
	}
	g.SetReadDeadline(time.Now().Add(time.Hour))
	g.SetReadDeadline(time.Now().Add(time.Minute))
	if len(armed) != 0 {
		t.Error("a timer was set while nobody waited")
	}
	go read()
	<-armed
	past := time.Unix(1, 0)
	g.SetReadDeadline(past)
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	if at := <-armed; !at.Equal(past) {
		t.Errorf("interrupted by a timer set to %s", at)
	}
	// Now the timer is past what is wanted.
	g.SetReadDeadline(time.Time{})
	go read()
	select {
	case at := <-armed:
		if !at.IsZero() {
			t.Errorf("without a deadline, set to %s", at)
		}
	case err := <-ended:
		t.Fatalf("without a deadline: %v", err)
	}
	client.Write([]byte{1})
	if err := <-ended; err != nil {
		t.Errorf("without a deadline: %v", err)
	}
	// Nobody reads: nothing needs to be interrupted.
	g.SetReadDeadline(past)
	go read()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || len(armed) != 0 {
		t.Errorf("begun too late: %v, %d timers set", err, len(armed))
	}
	g.SetReadDeadline(time.Now().Add(aMoment))
	go read()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("that nobody answered: %v", err)
	}
}

// What is put off while somebody waits holds, though the timer rings before.
// What was done until then is not done again.
func TestDeadlineIsPutOff(t *testing.T) {
	sent := bytes.Repeat([]byte("touchmark"), 3<<20) // more than the kernel takes
	for what, c := range map[string]struct {
		set     func(*guest, time.Time) error
		call    func(*guest) error
		proceed func(client net.Conn)
	}{
		"read": {(*guest).SetReadDeadline, func(g *guest) error {
			got := make([]byte, 2)
			n, err := g.Read(got)
			if err == nil && got[0] != 7 {
				err = fmt.Errorf("%d bytes were read, %v", n, got)
			}
			return err
		}, func(client net.Conn) { client.Write([]byte{7}) }},
		"write": {(*guest).SetWriteDeadline, func(g *guest) error {
			n, err := g.Write(sent)
			if err == nil && n != len(sent) {
				err = io.ErrShortWrite
			}
			return err
		}, func(client net.Conn) {
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("not what was written came: %v", err)
			}
		}},
	} {
		// On a slow machine it may ring before it is put off.
		for moment := aMoment; ; moment *= 10 {
			g, client, armed := timedGuest(t)
			c.set(g, time.Now().Add(moment))
			ended := make(chan error, 1)
			go func() { ended <- c.call(g) }()
			<-armed
			late := time.Now().Add(time.Hour)
			c.set(g, late)
			select {
			case at := <-armed: // it rang
				if !at.Equal(late) {
					t.Errorf("%s: then set to %s", what, at)
				}
				c.proceed(client)
				if err := <-ended; err != nil {
					t.Errorf("%s: %v", what, err)
				}
			case err := <-ended:
				if errors.Is(err, os.ErrDeadlineExceeded) && moment < time.Second {
					continue
				}
				t.Errorf("%s: %v", what, err)
			}
			break
		}
	}
}

// Who keeps a connection and asks no more is let go.
func TestUnusedConnectionsEnd(t *testing.T) {
	s, _ := served(t, func(c *Config) {
		c.Status.HeaderTimeout, c.Status.IdleTimeout = Duration(time.Hour), Duration(100*time.Millisecond)
	}, nil)
	conn, err := net.Dial("tcp", s.Addrs()["status"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute)) // only a server that hangs meets it
	in := bufio.NewReader(conn)
	io.WriteString(conn, "GET /ocsp/none HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("it is not closed: %v", err)
	}
}
