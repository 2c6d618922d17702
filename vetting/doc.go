// Package vetting decides whether a device is let in.
//
// It owns the vocabulary of manufacture: products, sites, orders with their
// quota, manifests of records, devices and their states, registrations,
// verdicts and evidence. [Judge] is a pure function from [Facts] to a
// [Verdict]; it reads no clock, no database and no network, so a decision can
// be repeated over history and explained afterwards. What an admitted verdict
// allows is carried by an [Admission], which no other package can make.
//
// Reading manifests from bytes is the business of vetting/manifest; keeping
// anything is the business of internal/store.
package vetting
