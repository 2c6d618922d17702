package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Answers are what servers have signed for everybody and share: each is made
// once, and all servers give the same bytes. What is kept in Redis is
// authenticated by a secret of the servers, together with its key, so who can
// write there can make no server give anything that no server has put.
type Answers struct {
	client *redis.Client
	prefix string
	secret []byte
	asking time.Duration
	places chan struct{} // filled by those who wait for Redis
	puts   chan put
	away   atomic.Bool // Redis failed; Run finds out when it is back

	Counts AnswerCounts
}

// AnswerCounts is what became of asking and putting.
type AnswerCounts struct {
	// Hits and Misses are what Redis had and had not; Refused is what it had
	// that no server has put there.
	Hits, Misses, Refused atomic.Int64
	// Failed are calls that Redis did not answer in time; Skipped were not
	// made, because it is away or slow.
	Failed, Skipped atomic.Int64
	// Put was kept, Lost was not.
	Put, Lost atomic.Int64
}

// AnswerKey names an answer. It is a hash of all that the answer depends on.
type AnswerKey = [sha256.Size]byte

// put is an answer on its way to Redis.
type put struct {
	key   AnswerKey
	value []byte
	last  time.Duration
	other func([]byte)
}

const (
	// asking is the standard for Options.Asking.
	asking = 50 * time.Millisecond
	// mostAsking is how many wait for Redis at a time; others do without.
	mostAsking = 64
	// mostPuts is how many answers wait to be kept, mostTogether how many are
	// sent together.
	mostPuts, mostTogether = 1024, 64
	// probeEvery is how often it is seen whether Redis is back.
	probeEvery = time.Second
	// maxAnswer is the longest answer that is shared.
	maxAnswer = 16 << 10
)

// OpenAnswers prepares the connections. Nothing is asked before Run has seen
// that Redis is there. The secret is the servers' own, and for this alone.
func OpenAnswers(o Options, secret []byte) (*Answers, error) {
	opts, err := o.parse()
	if err != nil {
		return nil, err
	}
	if o.Asking == 0 {
		o.Asking = asking
	}
	opts.ReadTimeout = max(patience, o.Asking)
	opts.PoolSize, opts.MinIdleConns, opts.ContextTimeoutEnabled = mostAsking+1, 2, true
	a := &Answers{
		client: redis.NewClient(opts), prefix: "touchmark:" + o.Name + ":answer:", secret: secret, asking: o.Asking,
		places: make(chan struct{}, mostAsking), puts: make(chan put, mostPuts),
	}
	a.away.Store(true)
	return a, nil
}

// Get gives what was put under a key, nil if there is nothing or Redis does
// not say so soon.
func (a *Answers) Get(key AnswerKey) []byte {
	if a.away.Load() {
		a.Counts.Skipped.Add(1)
		return nil
	}
	select {
	case a.places <- struct{}{}:
		defer func() { <-a.places }()
	default:
		a.Counts.Skipped.Add(1)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.asking)
	defer cancel()
	sealed, err := a.client.GetRange(ctx, a.name(key), 0, maxSealed).Bytes()
	if err != nil {
		a.fail(1)
		return nil
	}
	return a.open(key, sealed)
}

// Put has a value kept as long as it lasts. It does not wait, and may forget.
// If there is a value under the key already, that one stays, and other is
// called with it.
func (a *Answers) Put(key AnswerKey, value []byte, last time.Duration, other func(value []byte)) {
	if a.away.Load() || len(value) > maxAnswer {
		a.Counts.Lost.Add(1)
		return
	}
	select {
	case a.puts <- put{key, value, max(last, time.Millisecond), other}:
	default:
		a.Counts.Lost.Add(1)
	}
}

// Run keeps what is put, and looks whether Redis is back when it was away,
// until ctx ends.
func (a *Answers) Run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	a.probe(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.probe(ctx)
		case first := <-a.puts:
			a.keep(ctx, a.together(first))
		}
	}
}

func (a *Answers) probe(ctx context.Context) {
	if a.away.Load() && a.client.Ping(ctx).Err() == nil {
		a.away.Store(false)
	}
}

// together takes what else waits to be kept.
func (a *Answers) together(first put) []put {
	list := []put{first}
	for len(list) < mostTogether {
		select {
		case p := <-a.puts:
			list = append(list, p)
		default:
			return list
		}
	}
	return list
}

// keep sends values to Redis, and learns what other servers had put there.
func (a *Answers) keep(ctx context.Context, list []put) {
	type reply struct {
		set *redis.BoolCmd
		get *redis.StringCmd
	}
	if a.away.Load() {
		a.Counts.Lost.Add(int64(len(list)))
		return
	}
	replies := make([]reply, len(list))
	_, err := a.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, p := range list {
			name := a.name(p.key)
			replies[i] = reply{pipe.SetNX(ctx, name, a.seal(p.key, p.value), p.last), pipe.GetRange(ctx, name, 0, maxSealed)}
		}
		return nil
	})
	if err != nil {
		a.fail(len(list))
		a.Counts.Lost.Add(int64(len(list)))
		return
	}
	for i, p := range list {
		if replies[i].set.Val() {
			a.Counts.Put.Add(1)
		} else if sealed, _ := replies[i].get.Bytes(); len(sealed) > 0 {
			a.second(ctx, p, sealed)
		}
	}
}

// second is for a value whose key has one already.
func (a *Answers) second(ctx context.Context, p put, sealed []byte) {
	if value := a.open(p.key, sealed); value != nil {
		p.other(value)
		return
	}
	if err := a.client.Set(ctx, a.name(p.key), a.seal(p.key, p.value), p.last).Err(); err != nil {
		a.fail(1)
		a.Counts.Lost.Add(1)
		return
	}
	a.Counts.Put.Add(1)
}

// fail has Redis left alone until it answers again.
func (a *Answers) fail(calls int) {
	a.Counts.Failed.Add(int64(calls))
	a.away.Store(true)
}

func (a *Answers) name(key AnswerKey) string {
	return a.prefix + base64.RawURLEncoding.EncodeToString(key[:])
}

// maxSealed is the longest value that is read back.
const maxSealed = sha256.Size + maxAnswer

func (a *Answers) seal(key AnswerKey, value []byte) []byte {
	return append(a.mac(key, value), value...)
}

// open gives what was sealed under a key. Redis gives an empty string for
// what it has not.
func (a *Answers) open(key AnswerKey, sealed []byte) []byte {
	switch {
	case len(sealed) == 0:
		a.Counts.Misses.Add(1)
	case len(sealed) <= sha256.Size || len(sealed) > maxSealed || !hmac.Equal(sealed[:sha256.Size], a.mac(key, sealed[sha256.Size:])):
		a.Counts.Refused.Add(1)
	default:
		a.Counts.Hits.Add(1)
		return sealed[sha256.Size:]
	}
	return nil
}

func (a *Answers) mac(key AnswerKey, value []byte) []byte {
	m := hmac.New(sha256.New, a.secret)
	m.Write(key[:])
	m.Write(value)
	return m.Sum(nil)
}

// Close closes the connections.
func (a *Answers) Close() error { return a.client.Close() }
