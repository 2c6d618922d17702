package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
)

func (a *API) openings() {
	register(a, access.PlanProduction, operation{
		id: "proposeOpening", method: http.MethodPost, path: "/orders/{name}/opening", tag: tagPlanning,
		summary: "Ask others to agree that an order opens", status: http.StatusCreated,
		description: "Where the order's product wants approvals for an order of that many units. What they sign says all of the order: product, site, quantity, identifiers, window, limits. It is void once the order or its product is changed. With the last approval the order is open.",
	}, func(ctx context.Context, c *call, in *namedBody[ReasonInput]) (*bodyOutput[Proposal], error) {
		return answerProposal(c.ProposeOpening(ctx, c.act, in.Name, in.Body.Note))
	})
}
