package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// Devices that were seen to run different releases are counted by whom an act
// would touch: a yank, a floor, the revocation of a key. A floor that no
// published release reaches is refused with the number of those below it.
func TestFirmwareImpact(t *testing.T) {
	w := newFoundry(t)
	for n := range 6 {
		w.world.Load(t, storetest.Unit(n))
	}
	old, _ := w.published("1.0.0", 3)
	now, _ := w.published("1.1.0", 4)
	report := func(n int, version string, counter uint32, ago time.Duration) {
		t.Helper()
		w.want("portal", "POST", "/firmware-reports", map[string]any{"device": w.device(n), "version": version, "counter": counter, "at": time.Now().Add(-ago)}, 200)
	}
	for n, runs := range []release.Running{{Version: "0.9.0", Counter: 1}, {Version: "1.0.0", Counter: 3}, {Version: "1.0.0", Counter: 3}, {Version: "1.1.0", Counter: 4}, {Version: "1.0.0", Counter: 3}} {
		report(n, runs.Version, runs.Counter, time.Hour)
	}
	report(4, "1.1.0", 4, time.Minute) // it was updated
	report(3, "1.0.0", 3, 2*time.Hour) // older than what is known
	w.want("portal", "POST", "/firmware-reports", map[string]any{"device": w.device(0), "version": "1.0.0", "counter": 3, "at": time.Now().Add(time.Hour)}, 422, "in the future")
	for path, want := range map[string]release.Impact{
		fmt.Sprintf("/releases/%d/yank-impact", old):     {Devices: 2, Seen: 5, Releases: []string{"thermo@1.0.0"}},
		fmt.Sprintf("/releases/%d/yank-impact", now):     {Devices: 2, Seen: 5, Releases: []string{"thermo@1.1.0"}},
		"/products/thermo/firmware/floor-impact?floor=3": {Devices: 1, Seen: 5, Releases: []string{}},
		"/products/thermo/firmware/floor-impact?floor=4": {Devices: 3, Seen: 5, Releases: []string{"thermo@1.0.0"}},
		"/products/thermo/firmware/floor-impact?floor=5": {Devices: 5, Seen: 5, Releases: []string{"thermo@1.0.0", "thermo@1.1.0"}, Stranded: true},
		"/firmware-keys/thermo-1/impact":                 {Devices: 4, Seen: 5, Releases: []string{"thermo@1.1.0", "thermo@1.0.0"}},
	} {
		got := into[release.Impact](t, []byte(w.want("anna", "GET", path, nil, 200).text))
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	w.want("erna", "POST", "/products/thermo/firmware/floor", map[string]any{"floor": 5, "note": "a hole"}, 409, "would strand 5 devices", "publish one first")
	w.want("erna", "POST", "/products/thermo/firmware/floor", map[string]any{"floor": 4, "note": "a hole"}, 202)
	if i := into[release.Impact](t, []byte(w.want("anna", "GET", "/firmware-keys/thermo-test/impact", nil, 200).text)); i.Devices != 0 || len(i.Releases) != 0 {
		t.Errorf("a key that signed no release: %+v", i)
	}
}
