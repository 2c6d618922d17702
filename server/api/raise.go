package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// RaiseInput asks for a larger quantity.
type RaiseInput struct {
	Quantity int64  `json:"quantity" minimum:"1" maximum:"100000000" doc:"The new quantity"`
	Note     string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for those who approve it"`
}

// RaiseApprovalInput names what is approved, and signs it.
type RaiseApprovalInput struct {
	Quantity  int64  `json:"quantity" minimum:"1" maximum:"100000000" doc:"The quantity that is approved; another one than the raise's is a conflict"`
	Signature []byte `json:"signature" minLength:"1" maxLength:"2048" doc:"The signature of the payload of the proposal with the raise's number, in base64, as approveProposal takes it"`
}

// raiseInput names a raise of an order.
type raiseInput[T any] struct {
	Name string `path:"name" maxLength:"63" doc:"The order's name"`
	ID   int64  `path:"id" minimum:"1" doc:"The raise's number"`
	Body T
}

func (a *API) raises() {
	type list struct {
		PageInput
		Name string `path:"name" maxLength:"63" doc:"The order's name"`
	}
	register(a, access.ReadProduction, operation{
		id: "listRaises", method: http.MethodGet, path: "/orders/{name}/raises", tag: tagPlanning,
		summary: "List the raises of an order, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Raise], error) {
		return listing(in.PageInput, "raises", func(r *vetting.Raise) int64 { return r.ID },
			func(p vetting.Page) ([]*vetting.Raise, error) { return c.Raises(ctx, in.Name, p) })
	})
	register(a, access.PlanProduction, operation{
		id: "proposeRaise", method: http.MethodPost, path: "/orders/{name}/raises", tag: tagPlanning,
		summary: "Ask for a larger quantity of an order that wants approvals for it", status: http.StatusCreated,
		description: "The raise waits for as many approvals as the order wants, by operators other than the one who asks. It expires after seven days, and is void once the order is changed. One raise of an order waits at a time.",
	}, func(ctx context.Context, c *call, in *namedBody[RaiseInput]) (*bodyOutput[vetting.Raise], error) {
		return answer(c.ProposeRaise(ctx, c.act, in.Name, in.Body.Quantity, in.Body.Note))
	})
	register(a, access.PlanProduction, operation{
		id: "approveRaise", method: http.MethodPost, path: "/orders/{name}/raises/{id}/approve", tag: tagPlanning,
		summary:     "Approve a raise",
		description: "A raise is a proposal, and this is approveProposal for planners. Whoever asked for it cannot, and nobody counts twice. With the last approval the order has the new quantity.",
	}, func(ctx context.Context, c *call, in *raiseInput[RaiseApprovalInput]) (*bodyOutput[vetting.Raise], error) {
		return answer(c.ApproveRaise(ctx, c.act, in.Name, in.ID, in.Body.Quantity, a.signed(c, in.Body.Signature)))
	})
	register(a, access.PlanProduction, operation{
		id: "withdrawRaise", method: http.MethodPost, path: "/orders/{name}/raises/{id}/withdraw", tag: tagPlanning,
		summary:     "Withdraw a raise that waits",
		description: "By whoever asked for it, or by anybody who could approve it.",
	}, func(ctx context.Context, c *call, in *raiseInput[ReasonInput]) (*bodyOutput[vetting.Raise], error) {
		return answer(c.WithdrawRaise(ctx, c.act, in.Name, in.ID, in.Body.Note))
	})
}
