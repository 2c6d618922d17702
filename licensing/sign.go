package licensing

import (
	"context"
	"crypto"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/touchmark/touchmark/firmware-sign/licence"
)

// signAtOnce is how many licences are worth another goroutine.
const signAtOnce = 8

// signAll signs the licences of all chips, on all cores, or gives the first
// error.
func signAll(ctx context.Context, h licence.Header, uids [][]byte, key crypto.Signer) ([]licence.Licence, error) {
	made := make([]licence.Licence, len(uids))
	workers := min(runtime.GOMAXPROCS(0), (len(uids)+signAtOnce-1)/signAtOnce)
	errs := make([]error, workers)
	var next atomic.Int64
	var failed atomic.Bool
	work := func(worker int) {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(uids) {
				return
			}
			err := ctx.Err()
			if err == nil {
				made[i], err = licence.Sign(h, uids[i], key)
			}
			if err != nil {
				errs[worker] = err
				failed.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for worker := 1; worker < workers; worker++ {
		wg.Go(func() { work(worker) })
	}
	work(0)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}
