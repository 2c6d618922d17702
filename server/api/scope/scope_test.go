package scope_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/server/api/scope"
	"github.com/touchmark/touchmark/vetting"
)

// far is a store in which everything belongs to the site, and the owner, "far". The methods
// that it does not have panic: a view that reaches one has gone too far.
type far struct{ scope.Store }

func (far) Site(context.Context, string) (*vetting.Site, error) {
	return &vetting.Site{Name: "far"}, nil
}
func (far) Order(context.Context, string) (*vetting.Order, error) {
	return &vetting.Order{Site: "far"}, nil
}
func (far) Manifest(context.Context, int64) (*vetting.Manifest, error) {
	return &vetting.Manifest{Site: "far"}, nil
}
func (far) Registration(context.Context, int64) (*vetting.Registration, error) {
	return &vetting.Registration{Site: "far"}, nil
}
func (far) Device(context.Context, int64) (*vetting.Device, error) {
	return &vetting.Device{Site: "far", Owner: "far"}, nil
}
func (far) DeviceHistory(context.Context, int64) (*vetting.History, error) {
	return &vetting.History{Device: vetting.Device{Site: "far", Owner: "far"}}, nil
}
func (far) Certificate(context.Context, string) (*vetting.Certificate, error) {
	return &vetting.Certificate{DeviceID: 1}, nil
}
func (far) Challenge(context.Context, int64) (*vetting.Challenge, error) {
	return &vetting.Challenge{DeviceID: 1}, nil
}
func (far) Subjects(context.Context, vetting.SubjectQuery) ([]*vetting.Subject, error) {
	return []*vetting.Subject{{Device: vetting.Device{Site: "far", Owner: "far"}, Shown: &vetting.Certificate{}}}, nil
}
func (far) Code(context.Context, int64) (*vetting.EnrolmentCode, error) {
	return &vetting.EnrolmentCode{Site: "far"}, nil
}
func (far) AccountKey(context.Context, int64) (*vetting.AccountKey, error) {
	return &vetting.AccountKey{Site: "far"}, nil
}
func (far) Events(context.Context, events.Position, events.Filter, int) (events.Page, error) {
	return events.Page{Events: []events.Event{{Site: "far", Device: &events.DeviceNow{Owner: "far"}}}}, nil
}
func (far) Operator(context.Context, string) (*access.Operator, error) {
	return &access.Operator{Site: "far"}, nil
}
func (far) Product(context.Context, string) (*vetting.Product, error) {
	return new(vetting.Product), nil
}
func (far) Owner(_ context.Context, name string) (*vetting.Owner, error) {
	if name != "far" {
		return nil, vetting.Errorf(vetting.NotFound, "no owner")
	}
	return &vetting.Owner{Name: name}, nil
}
func (far) Transfers(_ context.Context, f vetting.TransferFilter, _ vetting.Page) ([]*vetting.Transfer, error) {
	if slices.Contains(f.Parties, "near") {
		return nil, nil
	}
	return []*vetting.Transfer{{To: "far"}}, nil
}
func (far) Licences(_ context.Context, f vetting.LicenceFilter, _ vetting.Page) ([]*vetting.Licence, error) {
	if f.Site == "near" {
		return nil, nil
	}
	return []*vetting.Licence{{Site: "far"}}, nil
}
func (far) LicencesOf(context.Context, [][]byte) ([]*vetting.Licence, error) {
	return []*vetting.Licence{{Site: "far"}}, nil
}
func (far) LicenceKeys(context.Context, string) ([]*vetting.LicenceKey, error) {
	return []*vetting.LicenceKey{{}}, nil
}
func (far) Transfer(context.Context, int64) (*vetting.Transfer, error) {
	return &vetting.Transfer{From: vetting.Manufacturer, To: "far"}, nil
}

// open are the methods that are not about things of a site or owner; whether
// the operator may use them is a matter of permission.
var open = map[string]bool{"Operator": true, "CreateProduct": true, "UpdateProduct": true, "PastRegistrations": true, "CreateSite": true}

// openToSites are those that a site may know of besides.
var openToSites = map[string]bool{"Products": true, "Product": true, "RuleVersions": true, "LicenceKeys": true}

// TestNothingFarIsSeen calls every method of a view as an operator of another
// site or owner, and as one whose site or owner was forgotten: each must find
// nothing, before it could change anything.
func TestNothingFarIsSeen(t *testing.T) {
	for _, of := range []string{"near", ""} {
		t.Run("site "+of, func(t *testing.T) {
			findsNothing(t, &access.Operator{Role: access.RoleSiteOperator, Site: of, SiteID: 1}, "Site")
		})
		t.Run("owner "+of, func(t *testing.T) {
			findsNothing(t, &access.Operator{Role: access.RoleOwnerOperator, Owner: of}, "Owner")
		})
	}
}

func findsNothing(t *testing.T, op *access.Operator, field string) {
	v := reflect.ValueOf(scope.NewGate(far{}).View(op))
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		if open[name] || op.Role.OfSite() && openToSites[name] {
			continue
		}
		out := v.Method(i).Call(arguments(t, v.Method(i).Type(), field))
		err, _ := out[len(out)-1].Interface().(error)
		if page, ok := out[0].Interface().(events.Page); ok {
			out[0] = reflect.ValueOf(page.Events)
		}
		switch {
		case name == "Inspect":
			if f := out[0].Interface().(*vetting.Finding); err != nil || f.Verdict != vetting.Unknown || f.Subject != nil {
				t.Errorf("an inspection found %+v, %v", f, err)
			}
		case out[0].Kind() == reflect.Slice || out[0].Kind() == reflect.Map:
			if out[0].Len() != 0 || err != nil && vetting.ProblemOf(err) != vetting.NotFound {
				t.Errorf("%s: %v, %v", name, out[0], err)
			}
		case len(out) == 2 && !out[0].IsZero() || vetting.ProblemOf(err) != vetting.NotFound:
			t.Errorf("%s: %v, %v", name, out[0], err)
		}
	}
}

// arguments makes some for a method, naming the far site, or owner, wherever
// one can.
func arguments(t *testing.T, method reflect.Type, field string) []reflect.Value {
	t.Helper()
	var args []reflect.Value
	for i := range method.NumIn() {
		in := method.In(i)
		if in == reflect.TypeFor[context.Context]() {
			args = append(args, reflect.ValueOf(t.Context()))
			continue
		}
		v := reflect.New(in).Elem()
		if in.Kind() == reflect.Pointer {
			v.Set(reflect.New(in.Elem()))
		}
		for _, name := range []string{field, "From"} {
			if s := reflect.Indirect(v); s.Kind() == reflect.Struct && s.FieldByName(name).IsValid() {
				s.FieldByName(name).SetString("far")
			}
		}
		if in.Kind() == reflect.String {
			v.SetString("far")
		}
		args = append(args, v)
	}
	return args
}

// TestHeadquartersSeeAll is the same for an operator of no site.
func TestHeadquartersSeeAll(t *testing.T) {
	v := scope.NewGate(far{}).View(&access.Operator{Role: access.RolePlanner})
	ctx := t.Context()
	if o, err := v.Order(ctx, "x"); err != nil || o.Site != "far" {
		t.Errorf("%v, %v", o, err)
	}
	if d, err := v.Device(ctx, 1); err != nil || d.Site != "far" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := v.Certificate(ctx, "0a"); err != nil {
		t.Error(err)
	}
}
