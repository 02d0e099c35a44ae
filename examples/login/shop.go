package main

import (
	"net/http"
	"slices"

	"github.com/sojourn-go/session"
)

// A cart may be kept when its owner logs in. What says something about who the
// visitor is may not: somebody else may have put it there.
var cart = session.NewKey[[]string]("cart").SurvivesLogin()

// A product has a name, which is what a cart holds, and what it costs.
type product struct{ Name, About, Price string }

var products = []product{
	{"Kettle", "Stainless steel, 1.2 litres", "€ 39"},
	{"Teapot", "Stoneware, with a lid that stays on", "€ 28"},
	{"Strainer", "For loose leaves, fits any cup", "€ 7"},
}

// maxItems keeps a cart well inside Config.MaxBytes.
const maxItems = 100

func home(w http.ResponseWriter, r *http.Request) {
	show(w, http.StatusOK, "home.html", struct {
		frame
		Products []product
		Cart     []string
	}{frameFor(r, "The tea shop"), products, cart.Get(session.FromContext(r.Context()))})
}

func addToCart(w http.ResponseWriter, r *http.Request) {
	item := r.PostFormValue("item")
	if !slices.ContainsFunc(products, func(p product) bool { return p.Name == item }) {
		fail(w, http.StatusBadRequest, "We do not sell that.")
		return
	}
	s := session.FromContext(r.Context())
	// Update, not Get and Set: two clicks at once put two things into the cart.
	cart.Update(s, func(items []string) []string {
		if len(items) >= maxItems {
			return items
		}
		return append(items, item)
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
