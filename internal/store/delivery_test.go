package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

func newHook(w *storetest.World) (*events.Webhook, error) {
	return w.Store.CreateWebhook(context.Background(), storetest.By, &events.Webhook{Name: "erp", Seed: []byte("seed")}, &events.Position{})
}

// A cursor whose saving fails is the old one or the new one, and never in
// between; the webhook can be delivered to afterwards.
func TestDeliveryFails(t *testing.T) {
	ctx := context.Background()
	for db, dsn := range storetest.Databases(t) {
		for name, mode := range faults {
			t.Run(db+"/"+name, func(t *testing.T) {
				fault := new(store.Fault)
				s, err := store.Open(ctx, store.WithFault(store.Options{DSN: dsn}, fault))
				if err != nil {
					t.Fatal(err)
				}
				w := storetest.NewWorld(t, s, 2)
				w.Load(t, storetest.Unit(0))
				if _, err := newHook(w); err != nil {
					t.Fatal(err)
				}
				held, err := s.HoldWebhooks(ctx, "a", time.Hour)
				if err != nil || len(held) != 1 {
					t.Fatal(held, err)
				}
				fault.Next(mode)
				d := events.Delivery{Cursor: events.Position{Leaf: 2, Place: 1}, Delivered: time.UnixMicro(5).UTC()}
				saved := s.SaveDelivery(ctx, "a", held[0], d)
				paused := s.PauseDelivery(ctx, "a", held[0], d, "gone")
				if mode != store.StatementFails && saved == nil || paused == nil {
					t.Errorf("no error although the write failed: %v, %v", saved, paused)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				again := storetest.Open(t, dsn)
				verify(t, again)
				got, err := again.Webhook(ctx, "erp")
				if err != nil {
					t.Fatal(err)
				}
				if kept := mode == store.Persisted; kept != (got.State == events.WebhookPaused) {
					t.Errorf("the webhook is %s", got.State)
				}
				got.Delivery.Lag = 0
				if got.Delivery != d && got.Delivery != (events.Delivery{}) || got.Delivery != d && mode == store.Persisted {
					t.Errorf("the delivery is %+v", got.Delivery)
				}
				if err := again.SaveDelivery(ctx, "b", got, d); !errors.Is(err, events.ErrNotHeld) {
					t.Errorf("saved by who does not hold it: %v", err)
				}
			})
			dsn = storetest.Databases(t)[db]
		}
	}
}
