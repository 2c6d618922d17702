package broker

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/touchmark/touchmark/vetting"
)

// hook is where mochi asks.
type hook struct {
	mochi.HookBase
	broker *Broker
}

// ID implements mochi.Hook.
func (*hook) ID() string { return "door" }

// Provides implements mochi.Hook.
func (*hook) Provides(b byte) bool {
	return slices.Contains([]byte{mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSubscribe, mochi.OnPublish}, b)
}

// OnConnect bounds a client's silence. A client that asks for more is told so
// (MQTT 5) or sent away when it has been silent for too long (3.1.1).
func (h *hook) OnConnect(cl *mochi.Client, pk packets.Packet) error {
	most := uint16(min(h.broker.config.Bounds.Silence/time.Second*2/3, math.MaxUint16/2))
	if cl.State.Keepalive == 0 || cl.State.Keepalive > most {
		cl.State.Keepalive, cl.State.ServerKeepalive = max(1, most), true
	}
	if pk.Connect.WillFlag { // a will would be published by nobody's hand
		return packets.ErrImplementationSpecificError
	}
	return nil
}

// OnConnectAuthenticate lets a client in by the certificate that it showed.
// Its identifier is put below its key's, so that nobody takes over another's
// session; and no session outlives its connection.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, _ packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	rights, err := h.broker.config.Door.Enter(h.broker.work, c.shown[0])
	if err != nil {
		h.broker.config.Log.Debug("an MQTT client was turned away", "remote", cl.Net.Remote, "error", err)
		return false
	}
	c.rights = rights
	cl.ID = fmt.Sprintf("%s/%s", vetting.KeyFingerprint(c.shown[0].RawSubjectPublicKeyInfo), cl.ID)
	if cl.Properties.ProtocolVersion < 5 {
		cl.Properties.Clean = true
	}
	return true
}

// OnACLCheck confines a client to what its key may do.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	if !write {
		return mayRead(cl, topic)
	}
	c, ok := cl.Net.Conn.(*conn)
	return ok && c.rights != nil && c.rights.MayPublish(topic)
}

func mayRead(cl *mochi.Client, filter string) bool {
	c, ok := cl.Net.Conn.(*conn)
	return ok && c.rights != nil && c.rights.MayRead(filter)
}

// OnSubscribe bounds what is kept for a client.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if cl.State.Subscriptions.Len()+len(pk.Filters) > perClient {
		cl.Stop(packets.ErrQuotaExceeded)
	}
	return pk
}

// OnPublish hands a message to the door, and publishes what it answers. The
// message itself goes nowhere.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok || !h.broker.begin() {
		cl.Stop(packets.ErrServerShuttingDown)
		return pk, packets.ErrRejectPacket
	}
	defer h.broker.inside.Done()
	h.broker.state(c, http.StateActive)
	defer h.broker.state(c, http.StateIdle)
	answers, err := h.broker.config.Door.Serve(h.broker.work, Client{Shown: c.shown, Remote: cl.Net.Remote, Rights: c.rights},
		Message{Topic: pk.TopicName, Payload: pk.Payload})
	if err != nil {
		cl.Stop(err)
		return pk, packets.ErrRejectPacket // not acknowledged: the client sends it again
	}
	for _, m := range answers {
		if !m.Private {
			h.broker.deliver(m)
		} else if _, reads := cl.State.Subscriptions.Get(m.Topic); reads {
			tell(cl, m)
		}
	}
	return pk, packets.CodeSuccessIgnore
}
