package approval

import "fmt"

// Policy says how many others must agree to what administrators do with the
// installation itself. The numbers only grow: otherwise one administrator would
// lift the condition first.
type Policy struct {
	// CAs is for the CAs below the root: that one is created, becomes the
	// default, is closed or reopened. 0 needs nobody.
	CAs int `json:"cas"`
	// Operators is for operators whose role approves what others ask for.
	Operators int   `json:"operators"`
	Revision  int64 `json:"revision"` // 0 before anything was said
}

// Follows is an error if p is out of bounds, or wants less than what held
// before.
func (p Policy) Follows(before Policy) error {
	for _, n := range [...]struct {
		what     string
		had, has int
	}{{"CAs", before.CAs, p.CAs}, {"operators", before.Operators, p.Operators}} {
		switch {
		case n.has < 0 || n.has > MaxWanted:
			return fmt.Errorf("%d approvals for %s: between 0 and %d are allowed", n.has, n.what, MaxWanted)
		case n.has < n.had:
			return fmt.Errorf("what is done with %s wants %d approvals, and that cannot be made %d: the number can only grow", n.what, n.had, n.has)
		}
	}
	return nil
}

// Wanted is how many approvals the policy wants of a kind of act; 0 if it says
// nothing of it.
func (p Policy) Wanted(k Kind) int {
	switch k {
	case CACreate, CADefault, CAClose, CAReopen:
		return p.CAs
	case OperatorAdd:
		return p.Operators
	}
	return 0
}
