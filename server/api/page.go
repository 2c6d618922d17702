package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// List is one page of a list.
type List[T any] struct {
	Items []*T `json:"items" nullable:"false" doc:"The entries of this page"`
	// Next is the cursor of the next page; "" on the last one.
	Next string `json:"next,omitempty" doc:"The cursor of the next page; absent on the last one"`
}

// PageInput are the parameters of every list.
type PageInput struct {
	Cursor string `query:"cursor" maxLength:"100" doc:"Where to go on: the next of the page before"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The most entries to answer with"`
}

type listOutput[T any] struct{ Body List[T] }

// maxPage is the most entries that the store gives at once.
const maxPage = 1000

// page reads the cursor of a list. The page asks for one entry more than the
// client wants, if it can, which tells whether there is a next page.
func (p PageInput) page(list string) (vetting.Page, error) {
	after, err := parseCursor(list, p.Cursor)
	return vetting.Page{After: after, Limit: min(p.Limit+1, maxPage)}, err
}

// listing fetches one page.
func listing[T any](p PageInput, list string, id func(*T) int64, fetch func(vetting.Page) ([]*T, error)) (*listOutput[T], error) {
	page, err := p.page(list)
	if err != nil {
		return nil, err
	}
	items, err := fetch(page)
	if err != nil {
		return nil, err
	}
	out := &listOutput[T]{List[T]{Items: []*T{}}}
	if len(items) > p.Limit || len(items) == maxPage {
		items = items[:p.Limit]
		out.Body.Next = cursor(list, id(items[p.Limit-1]))
	}
	out.Body.Items = append(out.Body.Items, items...)
	return out, nil
}

// cursor names the last entry of a page. It carries the list's name, so that
// a cursor of another list is not mistaken for one of this.
func cursor(list string, id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + ":" + strconv.FormatInt(id, 10)))
}

// parseCursor reads what cursor wrote, and nothing else.
func parseCursor(list, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	refused := problem(http.StatusBadRequest, "the cursor %q is not one of this list: take it from the field next of the page before, or leave it out to begin anew", text)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return 0, refused
	}
	digits, ok := strings.CutPrefix(string(b), list+":")
	id, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || id < 1 || cursor(list, id) != text {
		return 0, refused
	}
	return id, nil
}
