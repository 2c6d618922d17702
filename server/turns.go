package server

import "sync"

// turns shares the processors out among a door's TLS handshakes. As many
// compute at a time as there are processors, so that requests compete with
// those few and not with every handshake that has begun. Who has got further
// goes first: a handshake that its client has answered before one that
// begins. So what was begun is finished, and under a load that is too much
// the queue is in front, where it has a bound and nobody in it has cost
// anything yet.
type turns struct {
	most     int        // handshakes and requests that may have work at a time when one more begins
	requests func() int // that are being worked on

	mu    sync.Mutex
	free  int // processors
	taken int // handshakes that have a turn or wait for one
	// Those that wait, first come, first served: the ones under way, which
	// are never turned away, and the ones that begin.
	underWay, beginning []chan struct{}
}

func newTurns(processors, most int, requests func() int) *turns {
	return &turns{free: processors, most: most, requests: requests}
}

// full tells whether a handshake that begins would be turned away.
func (t *turns) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.isFull()
}

func (t *turns) isFull() bool { return t.taken+t.requests() >= t.most }

// begin waits for the first turn of a handshake, and reports whether it is
// let in.
func (t *turns) begin() bool {
	t.mu.Lock()
	if t.isFull() {
		t.mu.Unlock()
		return false
	}
	t.await(&t.beginning)
	return true
}

// resume waits for the next turn of a handshake that has paused.
func (t *turns) resume() {
	t.mu.Lock()
	t.await(&t.underWay)
}

// await is called with the lock held, and gives it back.
func (t *turns) await(queue *[]chan struct{}) {
	t.taken++
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	*queue = append(*queue, turn)
	t.mu.Unlock()
	<-turn
}

// pause gives a turn to the next.
func (t *turns) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	for _, queue := range []*[]chan struct{}{&t.underWay, &t.beginning} {
		if len(*queue) > 0 {
			close((*queue)[0])
			*queue = (*queue)[1:]
			return
		}
	}
	t.free++
}
