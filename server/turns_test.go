package server

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// Among those that wait, the handshakes under way go first, and each in the
// order in which it came.
func TestTurnsOfThoseUnderWay(t *testing.T) {
	k := newTurns(1, 4, func() int { return 0 })
	if !k.begin() {
		t.Fatal("the first was turned away")
	}
	got := make(chan string, 10)
	for i, wait := range []func(){func() { k.begin() }, k.resume, func() { k.begin() }, k.resume} {
		go func() {
			wait()
			got <- fmt.Sprint(i)
		}()
		for k.count() != i+2 {
			runtime.Gosched()
		}
	}
	if !k.full() || k.begin() {
		t.Error("one too many was let in")
	}
	var order []string
	for range 4 {
		k.pause()
		order = append(order, <-got)
	}
	if want := []string{"1", "3", "0", "2"}; !slices.Equal(order, want) {
		t.Errorf("turns went to %v, want %v", order, want)
	}
	k.pause()
	if k.full() || k.count() != 0 || k.free != 1 {
		t.Errorf("afterwards %d are taken and %d free", k.count(), k.free)
	}
}
