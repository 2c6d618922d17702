package server

import (
	"errors"
	"os"
	"sync"
	"time"
)

// deadline is that of a connection's reads, or of its writes. net/http moves
// each to and fro in every request, mostly while nobody waits, and to set a
// timer costs much of what a short request costs. So what is wanted is only
// noted. The timer is set when something would otherwise wait for too long; one
// that rings too early is set anew, and what it interrupted goes on.
type deadline struct {
	set func(time.Time) error // the connection's timer

	mu     sync.Mutex
	wanted time.Time // as net.Conn has it: zero is none
	armed  time.Time // what the timer is set to
	inside int       // calls that the timer would interrupt
}

// want is net.Conn's SetReadDeadline or SetWriteDeadline.
func (d *deadline) want(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.inside == 0 || !d.late() {
		return nil
	}
	return d.arm()
}

// during calls a read or write, again if the timer interrupted it too early.
// That call goes on where it was.
func (d *deadline) during(call func() error) error {
	err := d.enter()
	for again := err == nil; again; {
		err, again = d.leave(call())
	}
	return err
}

func (d *deadline) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late() {
		if d.over() {
			return os.ErrDeadlineExceeded
		}
		if err := d.arm(); err != nil {
			return err
		}
	}
	d.inside++
	return nil
}

// leave takes what a call ended with.
func (d *deadline) leave(err error) (_ error, again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && !d.over() {
		if err = d.arm(); err == nil {
			return nil, true
		}
	}
	d.inside--
	return err, false
}

// late reports whether the timer is set to a later time than is wanted.
func (d *deadline) late() bool {
	return !d.wanted.IsZero() && (d.armed.IsZero() || d.wanted.Before(d.armed))
}

// over reports whether what is wanted is past.
func (d *deadline) over() bool { return !d.wanted.IsZero() && !time.Now().Before(d.wanted) }

func (d *deadline) arm() error {
	d.armed = d.wanted
	return d.set(d.wanted)
}
