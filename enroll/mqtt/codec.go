package mqtt

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/touchmark/touchmark/enroll"
)

// codec is a payload format of the compatible shape. What unmarshal cannot
// read is a *enroll.RequestError.
type codec struct {
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}

var codecs = map[string]codec{
	"json": {json.Marshal, func(b []byte, into any) error {
		if err := json.Unmarshal(b, into); err != nil {
			return enroll.BadRequest("the payload is no JSON of this request: %s", enroll.JSONFault(err))
		}
		return nil
	}},
	"cbor": {cbor.Marshal, func(b []byte, into any) error {
		if err := strictCBOR.Unmarshal(b, into); err != nil {
			return enroll.BadRequest("the payload is no CBOR of this request (RFC 8949): %s", cborFault(err))
		}
		return nil
	}},
}

// cborFault says what is wrong with a payload, without the names of our types.
func cborFault(err error) string {
	var kind *cbor.UnmarshalTypeError
	if errors.As(err, &kind) {
		return "a " + kind.CBORType + " stands where another type belongs"
	}
	return strings.TrimPrefix(err.Error(), "cbor: ")
}

// strictCBOR takes one map of text strings, and another inside, and bounds
// what a payload can cost.
var strictCBOR = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 64, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()
