package store

import (
	"context"
	"net/netip"

	"github.com/touchmark/touchmark/vetting"
)

// OnSite implements enroll.Ledger.
func (s *Store) OnSite(ctx context.Context, f *vetting.Facts) (bool, error) {
	list, err := s.networksOf(ctx, f.Record.SiteID)
	return from(f.Claim.Remote, list), err
}

func (s *Store) networksOf(ctx context.Context, site int64) (networks []netip.Prefix, err error) {
	list, err := s.sites(ctx, `id = $1`, site)
	if err != nil || len(list) == 0 {
		return nil, orNotFound(err, "site", site)
	}
	for _, text := range list[0].Networks {
		if p, err := netip.ParsePrefix(text); err == nil { // they were checked when they were saved
			networks = append(networks, p)
		}
	}
	return networks, nil
}

// from reports whether an address is in one of the networks.
func from(remote string, networks []netip.Prefix) bool {
	peer, err := netip.ParseAddr(remote)
	if err != nil {
		return false
	}
	for _, p := range networks {
		if p.Contains(peer.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}
