package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// walk follows a list's cursors to its end.
func walk(t *testing.T, w *world, path string, limit int) (ids []int64, pages int) {
	t.Helper()
	type entry struct{ ID int64 }
	for next := ""; ; {
		l := decode[api.List[entry]](t, w.as("planner", "GET", fmt.Sprintf("%s?limit=%d&cursor=%s", path, limit, next), nil), 200)
		for _, e := range l.Items {
			ids = append(ids, e.ID)
		}
		pages++
		if len(l.Items) > limit || pages > 100 {
			t.Fatalf("%s: %d entries on page %d", path, len(l.Items), pages)
		}
		if next = l.Next; next == "" {
			return ids, pages
		}
	}
}

func TestCursors(t *testing.T) {
	w := newWorld(t)
	w.store.devices, w.store.registrations = nil, nil
	const n = 25
	for i := int64(1); i <= n; i++ {
		w.store.devices = append(w.store.devices, &vetting.Device{ID: i})
		w.store.registrations = append(w.store.registrations, &vetting.Registration{ID: i})
	}
	for limit, pages := range map[int]int{1: 25, 5: 5, 7: 4, 24: 2, 25: 1, 26: 1, 1000: 1} {
		up, p := walk(t, w, "/devices", limit)
		down, q := walk(t, w, "/registrations", limit)
		if p != pages || q != pages {
			t.Errorf("limit %d: %d and %d pages, want %d", limit, p, q, pages)
		}
		if len(up) != n || len(down) != n {
			t.Fatalf("limit %d: %d and %d entries, want %d", limit, len(up), len(down), n)
		}
		for i := range up {
			if up[i] != int64(i+1) || down[i] != int64(n-i) {
				t.Fatalf("limit %d: orders %v and %v", limit, up, down)
			}
		}
	}
}

// TestLargestPage fills pages to the store's own limit, beyond which it
// cannot be asked whether there is more.
func TestLargestPage(t *testing.T) {
	w := newWorld(t)
	w.store.devices = nil
	for i := int64(1); i <= 2000; i++ {
		w.store.devices = append(w.store.devices, &vetting.Device{ID: i})
	}
	for _, limit := range []int{999, 1000} {
		if ids, _ := walk(t, w, "/devices", limit); len(ids) != 2000 {
			t.Errorf("limit %d: %d entries, want 2000", limit, len(ids))
		}
	}
	for _, p := range w.store.pages {
		if p.Limit > 1000 {
			t.Errorf("the store was asked for %d entries at once", p.Limit)
		}
	}
}

func TestBadCursors(t *testing.T) {
	w := newWorld(t)
	b64 := base64.RawURLEncoding.EncodeToString
	for _, c := range []string{
		"x", "1", "%20", b64([]byte("devices:")), b64([]byte("devices:0")), b64([]byte("devices:-1")), b64([]byte("devices:01")),
		b64([]byte("devices:+1")), b64([]byte("orders:1")), b64([]byte("devices:99999999999999999999")), b64([]byte("devices:1")) + "=", "!!!!",
	} {
		refused(t, w.as("planner", "GET", "/devices?cursor="+c, nil), 400, "cursor")
	}
	refused(t, w.as("planner", "GET", "/devices?cursor="+strings.Repeat("A", 200), nil), 422, "cursor")
	for _, limit := range []string{"0", "-1", "1001", "x", "1e2", "99999999999999999999"} {
		refused(t, w.as("planner", "GET", "/devices?limit="+limit, nil), 422, "query.limit")
	}
	if len(w.store.pages) != 0 {
		t.Error("the store was asked")
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]int{
		"/orders?state=open": 2, "/orders?state=draft": 0, "/orders?product=lamp&site=far": 1,
		"/devices?serial=S-near": 1, "/devices?mac=02-00-00-00-00-01": 1, "/devices?mac=020000000009": 0, "/devices?state=active": 2, "/devices?order=order-far": 1,
		"/registrations?undecided=true": 2, "/registrations?verdict=admitted": 0, "/registrations?device=11": 1,
		"/evidence?kind=wrong-key": 2, "/evidence?kind=over-quota": 0, "/evidence?device=12": 1, "/manifests?order=order-near": 1,
	} {
		if l := decode[api.List[any]](t, w.as("planner", "GET", path, nil), 200); len(l.Items) != want {
			t.Errorf("%s: %d entries, want %d", path, len(l.Items), want)
		}
	}
	refused(t, w.as("planner", "GET", "/devices?state=lost", nil), 422, "query.state")
	refused(t, w.as("planner", "GET", "/evidence?kind=hunch", nil), 422, "query.kind")
}

func FuzzCursor(f *testing.F) {
	f.Add("devices", api.Cursor("devices", 17))
	f.Add("devices", "")
	f.Add("orders", "ZGV2aWNlczox")
	f.Fuzz(func(t *testing.T, list, text string) {
		id, err := api.ParseCursor(list, text)
		switch {
		case err != nil && id != 0:
			t.Errorf("%q is refused, but gives %d", text, id)
		case err == nil && text == "" && id != 0:
			t.Errorf("no cursor gives %d", id)
		case err == nil && text != "" && (id < 1 || api.Cursor(list, id) != text):
			t.Errorf("%q gives %d, whose cursor is %q", text, id, api.Cursor(list, id))
		}
	})
}
