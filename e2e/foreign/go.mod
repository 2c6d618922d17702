// EST clients that others wrote, against a real server. A module of their
// own, so that their dependencies have no say in what Touchmark is built from.
module github.com/touchmark/touchmark/e2e/foreign

go 1.26.0

require (
	github.com/globalsign/est v1.0.6
	github.com/makiuchi-d/gozxing v0.1.1
)

require (
	github.com/go-chi/chi v4.1.2+incompatible // indirect
	github.com/google/go-tpm v0.3.2 // indirect
	go.mozilla.org/pkcs7 v0.0.0-20200128120323-432b2356ecb1 // indirect
	golang.org/x/sys v0.0.0-20210220050731-9a76102bfb43 // indirect
	golang.org/x/text v0.3.7 // indirect
	golang.org/x/time v0.0.0-20210220033141-f8bda1e9f3ba // indirect
	golang.org/x/xerrors v0.0.0-20200804184101-5ec99f83aff1 // indirect
)
