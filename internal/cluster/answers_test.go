package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cluster/redistest"
)

var secret = []byte("the servers' own secret")

// sharer is a server that shares answers until the test ends.
func sharer(t *testing.T, o cluster.Options, secret []byte) *cluster.Answers {
	t.Helper()
	a, err := cluster.OpenAnswers(o, secret)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { a.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		a.Close()
	})
	return a
}

// puts puts a value until it is kept, or there is another.
func puts(t *testing.T, a *cluster.Answers, key cluster.AnswerKey, value string) (other string) {
	t.Helper()
	before, others := a.Counts.Put.Load(), make(chan string, 1)
	for late := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		lost := a.Counts.Lost.Load()
		a.Put(key, []byte(value), time.Hour, func(b []byte) { others <- string(b) })
		for a.Counts.Lost.Load() == lost {
			select {
			case other := <-others:
				return other
			default:
			}
			if a.Counts.Put.Load() > before {
				return ""
			}
			time.Sleep(time.Millisecond)
		}
		if time.Now().After(late) {
			t.Fatal("Redis does not keep it")
		}
	}
}

// gets asks as long as Redis is not asked.
func gets(t *testing.T, a *cluster.Answers, key cluster.AnswerKey) string {
	t.Helper()
	for late := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		idle := a.Counts.Skipped.Load() + a.Counts.Failed.Load()
		value := a.Get(key)
		if a.Counts.Skipped.Load()+a.Counts.Failed.Load() == idle {
			return string(value)
		}
		if time.Now().After(late) {
			t.Fatal("Redis is not asked")
		}
	}
}

func keyFor(text string) cluster.AnswerKey { return sha256.Sum256([]byte(text)) }

func TestAnswersAreShared(t *testing.T) {
	r := redistest.Start(t)
	o := cluster.Options{URL: "redis://" + r.Addr(), Name: "acme"}
	one, two := sharer(t, o, secret), sharer(t, o, secret)
	if got := gets(t, two, keyFor("a")); got != "" {
		t.Errorf("before: %q", got)
	}
	puts(t, one, keyFor("a"), "first")
	if got := gets(t, two, keyFor("a")); got != "first" {
		t.Errorf("the other has %q", got)
	}
	if got := puts(t, two, keyFor("a"), "second"); got != "first" {
		t.Errorf("who came second is told %q", got)
	}
	if got := gets(t, one, keyFor("a")); got != "first" {
		t.Errorf("afterwards %q", got)
	}
	o.Name = "other"
	if got := gets(t, sharer(t, o, secret), keyFor("a")); got != "" {
		t.Errorf("another Touchmark has %q", got)
	}
	raw := r.Client()
	for _, name := range raw.Keys(t.Context(), "*").Val() {
		if left := raw.PTTL(t.Context(), name).Val(); left <= 0 || left > time.Hour {
			t.Errorf("%s is kept for %s", name, left)
		}
	}
}

// Who can write to Redis makes nobody give what no server has put there under
// that key.
func TestAnswersOfNoServerAreRefused(t *testing.T) {
	r := redistest.Start(t)
	o := cluster.Options{URL: "redis://" + r.Addr(), Name: "acme"}
	a := sharer(t, o, secret)
	raw := r.Client()
	sealed := func(text string) (name string, value []byte) {
		t.Helper()
		before := raw.Keys(t.Context(), "*").Val()
		puts(t, a, keyFor(text), text)
		for _, name := range raw.Keys(t.Context(), "*").Val() {
			old := false
			for _, b := range before {
				old = old || b == name
			}
			if !old {
				value, _ := raw.Get(t.Context(), name).Bytes()
				return name, value
			}
		}
		t.Fatal("nothing was put")
		return "", nil
	}
	name, good := sealed("good")
	_, another := sealed("another")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	stranger := sharer(t, cluster.Options{URL: "redis://" + r.Addr(), Name: "strange"}, []byte("another secret"))
	puts(t, stranger, keyFor("good"), "good")
	foreign, err := raw.Get(t.Context(), "touchmark:strange:answer:"+name[len("touchmark:acme:answer:"):]).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for what, value := range map[string][]byte{
		"of another key": another, "a bit flipped": flipped, "truncated": good[:len(good)-1], "a byte": good[:1], "the authenticator alone": good[:sha256.Size],
		"longer": append(bytes.Clone(good), 0), "much longer": append(bytes.Clone(good), make([]byte, 10<<20)...), "made up": []byte("good"), "by another secret": foreign,
	} {
		if err := raw.Set(t.Context(), name, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		refused := a.Counts.Refused.Load()
		if got := gets(t, a, keyFor("good")); got != "" || a.Counts.Refused.Load() != refused+1 {
			t.Errorf("%s: %q, %d refused", what, got, a.Counts.Refused.Load()-refused)
		}
		if other := puts(t, a, keyFor("good"), "good"); other != "" {
			t.Errorf("%s: taken for another server's: %q", what, other)
		}
		if got := gets(t, a, keyFor("good")); got != "good" {
			t.Errorf("%s: not mended: %q", what, got)
		}
	}
}

// Without Redis, or with one that does not answer, nobody waits for long, and
// soon nobody waits at all.
func TestAnswersWithoutRedis(t *testing.T) {
	r := redistest.Start(t)
	a := sharer(t, cluster.Options{URL: "redis://" + r.Addr(), Name: "acme"}, secret)
	puts(t, a, keyFor("a"), "first")
	raw := r.Client()
	for what, trouble := range map[string]func(){
		"frozen":  func() { raw.Do(t.Context(), "CLIENT", "PAUSE", "3600000", "ALL") },
		"stopped": r.Stop,
	} {
		trouble()
		failed := a.Counts.Failed.Load()
		if got := a.Get(keyFor("a")); got != nil || a.Counts.Failed.Load() == failed && a.Counts.Skipped.Load() == 0 {
			t.Errorf("%s: %q", what, got)
		}
		failed, skipped := a.Counts.Failed.Load(), a.Counts.Skipped.Load()
		for range 1000 {
			a.Get(keyFor("a"))
			a.Put(keyFor("b"), []byte("b"), time.Hour, nil)
		}
		if n := a.Counts.Skipped.Load() - skipped; n != 1000 || a.Counts.Failed.Load() != failed {
			t.Errorf("%s: %d of 1000 did not ask, %d failed", what, n, a.Counts.Failed.Load()-failed)
		}
		r.Stop()
		r.Restart()
		if got := gets(t, a, keyFor("a")); got != "" {
			t.Errorf("%s: %q is there afterwards", what, got)
		}
		puts(t, a, keyFor("a"), "first")
	}
}
