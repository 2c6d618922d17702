package main

import "testing"

func TestWaste(t *testing.T) {
	w := newWorld(t)
	w.admin(t, "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "5", "--waste", "returns").want(t, 0, "(waste returns)")
	w.admin(t, "order", "create", "PO-3", "--product", "thermostat", "--site", "penang", "--quantity", "5", "--waste", "sold").want(t, exitFailed, "waste")
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	w.site(t, "device", "scrap", "A-0001", "--note", "cracked", "--yes").want(t, exitFailed, "manage devices")
	w.site(t, "device", "scrap", "A-0002", "--note", "cracked").want(t, exitUsage, "from manufactured to scrapped", "--yes")
	w.site(t, "device", "scrap", "A-0002", "--note", "cracked", "--yes").want(t, 0, "scrapped")
	w.site(t, "device", "scrap", "A-0002", "--note", "cracked", "--yes").want(t, exitFailed)
	w.site(t, "order", "show", "PO-1").want(t, 0, "1 of 5 (3 left)", "1 (waste counts)")
	if code := two.enrol(t, w); code != 403 {
		t.Errorf("a scrapped device enrolled: %d", code)
	}
	w.admin(t, "device", "scrap", "A-0001", "--note", "returned", "--yes").want(t, 0, "scrapped")
	w.site(t, "order", "show", "PO-1").want(t, 0, "1 of 5 (3 left)", "1 (waste counts)")
}
