package audit

// index is the last digest per object that leaves tell, as small as that can
// be: IDs come densely from the database, so entries stand in pages without
// keys, 40 bytes each.
type index struct {
	kinds map[Kind]map[int64]*indexPage
}

const indexPageSize = 64

type indexPage [indexPageSize]indexEntry

type indexEntry struct {
	digest Digest
	// leaf is the last leaf that tells of the object, plus 1; 0 if there is
	// none; negative once the object itself was seen.
	leaf int64
}

// at returns an object's entry; nil if it has none and grow is false.
func (x *index) at(k Kind, id int64, grow bool) *indexEntry {
	page := x.kinds[k][id>>6]
	if page == nil {
		if !grow {
			return nil
		}
		page = x.add(k, id>>6)
	}
	e := &page[id&(indexPageSize-1)]
	if e.leaf == 0 && !grow {
		return nil
	}
	return e
}

func (x *index) add(k Kind, n int64) *indexPage {
	if x.kinds == nil {
		x.kinds = map[Kind]map[int64]*indexPage{}
	}
	if x.kinds[k] == nil {
		x.kinds[k] = map[int64]*indexPage{}
	}
	page := new(indexPage)
	x.kinds[k][n] = page
	return page
}

// each visits every entry, in no order.
func (x *index) each(fn func(k Kind, id int64, e *indexEntry)) {
	for kind, pages := range x.kinds {
		for n, page := range pages {
			for i := range page {
				if page[i].leaf != 0 {
					fn(kind, n<<6+int64(i), &page[i])
				}
			}
		}
	}
}
