//! The networks of one scenario, made of network namespaces: routers with NAT, devices, relays, lines.
//!
//! ```text
//!   ann --- router(s) ---+
//!                        +--- the internet --- router "dc" --- relay-0, relay-1
//!  bert --- router(s) ---+                          +--- observer-0, observer-1, a third device
//! ```
//!
//! Nothing of it has a name outside: the namespaces are gone when the lab's process is, whatever ended it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;

use patchbay::{Firewall, IpSupport, Lab, Nat, NatConfig, NatMapping, Router, RouterBuilder, RouterPreset};
use tokio::process::{Child, Command};

use crate::Trouble;
use crate::line::Delay;
use crate::scenario::{Kind, Line, Scenario, kind};

/// The interface of every device.
const IFACE: &str = "eth0";
/// The table of what is cut, in the namespace of a router.
const CUT: &str = "table inet honeylink_cut";

/// A built scenario.
pub(crate) struct World {
    // Fields are dropped in order: whoever waits in a namespace goes before it.
    delays: Vec<Delay>,
    /// The routers that devices hang on, by network.
    places: BTreeMap<String, Router>,
    devices: BTreeMap<String, patchbay::Device>,
    relays: Vec<patchbay::Device>,
    observers: Vec<patchbay::Device>,
    /// Whether relays are found by name.
    named: bool,
    lab: Lab,
}

impl World {
    pub(crate) async fn build(scenario: &Scenario) -> Result<Self, Trouble> {
        // Only the lab's own user namespace is left, so root is nobody outside; patchbay cannot know that.
        let lab = Lab::builder().allow_real_root().build().await?;
        let mut world = Self {
            delays: Vec::new(),
            places: BTreeMap::new(),
            devices: BTreeMap::new(),
            relays: Vec::new(),
            observers: Vec::new(),
            named: scenario.places().any(|kind| kind == Kind::Ipv6Only),
            lab: lab.clone(),
        };
        let dc = lab.add_router("dc").preset(RouterPreset::Public).build().await?;
        world.condition(&dc, &scenario.line, 0).await?;
        for number in 0..scenario.relays {
            let relay = lab.add_device(&format!("relay-{number}")).iface(IFACE, dc.id()).build().await?;
            if world.named {
                let dns = lab.dns_server()?;
                let addresses = [relay.ip().map(IpAddr::V4), relay.ip6().map(IpAddr::V6)];
                for address in addresses.into_iter().flatten() {
                    dns.set_host(&name_of_relay(number), address)?;
                }
            }
            world.relays.push(relay);
        }
        for number in 0..scenario.observers {
            let observer = lab.add_device(&format!("observer-{number}")).iface(IFACE, dc.id());
            world.observers.push(observer.build().await?);
        }
        if let Some(name) = &scenario.ferry {
            let third = lab.add_device(name).iface(IFACE, dc.id()).build().await?;
            world.devices.insert(name.clone(), third);
        }
        for network in &scenario.networks {
            world.place(&lab, &network.name, network.kind, network.behind.as_deref(), &scenario.line).await?;
        }
        for device in &scenario.devices {
            let place = if world.places.contains_key(&device.behind) {
                device.behind.clone()
            } else {
                let kind = kind(&device.behind).ok_or("the scenario was not checked")?;
                let name = Self::place_of(&device.name);
                world.place(&lab, &name, kind, None, &scenario.line).await?;
                name
            };
            let router = world.places.get(&place).ok_or("no such network")?;
            let made = lab.add_device(&device.name).iface(IFACE, router.id()).build().await?;
            world.devices.insert(device.name.clone(), made);
        }
        Ok(world)
    }

    async fn place(
        &mut self,
        lab: &Lab,
        name: &str,
        kind: Kind,
        behind: Option<&str>,
        line: &Line,
    ) -> Result<(), Trouble> {
        let mut upstream = match behind {
            Some(behind) => Some(self.places.get(behind).ok_or("no such network")?.clone()),
            None => None,
        };
        if kind == Kind::Cgnat {
            let isp = shaped(lab.add_router(&format!("{name}-isp")), Kind::Cgnat)?.build().await?;
            upstream = Some(isp);
        }
        let inner = if kind == Kind::Cgnat { Kind::Home } else { kind };
        let mut router = shaped(lab.add_router(name), inner)?;
        if let Some(upstream) = upstream {
            router = router.upstream(upstream.id());
        }
        let router = router.build().await?;
        self.condition(&router, line, self.places.len() as u64 + 1).await?;
        self.places.insert(name.to_owned(), router);
        Ok(())
    }

    /// Gives a router's line its delay, loss and rate.
    async fn condition(&mut self, router: &Router, line: &Line, seed: u64) -> Result<(), Trouble> {
        if line.delay_ms > 0 || line.loss_percent > 0.0 {
            for tables in ["iptables", "ip6tables"] {
                let rule = ["-t", "mangle", "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", "0"];
                run(router, tables, &rule).await?;
            }
            self.delays.push(Delay::start(router, *line, seed)?);
        }
        if let Some(rate) = line.rate_mbit {
            let rate = format!("{rate}mbit");
            for interface in router.interfaces() {
                let shape = ["qdisc", "replace", "dev", interface.name(), "root", "tbf", "rate", &rate];
                run(router, "tc", &[&shape[..], &["burst", "32k", "latency", "50ms"]].concat()).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn device(&self, name: &str) -> Result<&patchbay::Device, Trouble> {
        self.devices.get(name).ok_or_else(|| format!("no device is called {name}").into())
    }

    pub(crate) fn relay(&self, number: usize) -> Result<&patchbay::Device, Trouble> {
        self.relays.get(number).ok_or_else(|| format!("there is no relay {number}").into())
    }

    /// What relay URLs name: an address, or in a world with IPv6 only a name that has addresses of both kinds.
    pub(crate) fn relay_host(&self, number: usize) -> Result<String, Trouble> {
        let relay = self.relay(number)?;
        if self.named {
            return Ok(name_of_relay(number));
        }
        Ok(relay.ip().ok_or("a relay without an address")?.to_string())
    }

    /// Lets nothing more into a relay's machine or out of it, or mends that: nobody is told that it is gone.
    pub(crate) async fn relay_link(&self, number: usize, up: bool) -> Result<(), Trouble> {
        let relay = self.relay(number)?;
        let rules = if up {
            format!("delete {CUT}")
        } else {
            let chain = |hook: &str| {
                format!("chain {hook} {{ type filter hook {hook} priority -10; policy drop; }};")
            };
            format!("{CUT} {{ {} {} }}", chain("input"), chain("output"))
        };
        finish(|command| relay.spawn_command(command), "nft", &[&rules]).await
    }

    pub(crate) fn relays(&self) -> usize {
        self.relays.len()
    }

    pub(crate) fn observers(&self) -> &[patchbay::Device] {
        &self.observers
    }

    /// The addresses of the relays, the observers and the name server, which every cut spares.
    fn spared(&self) -> (Vec<String>, Vec<String>) {
        let of = |pick: fn(&patchbay::Device) -> Option<IpAddr>, names: IpAddr| {
            let third = self.relays.iter().chain(&self.observers).filter_map(pick);
            third.chain([names]).map(|ip| ip.to_string()).collect()
        };
        let ix = self.lab.ix();
        (
            of(|relay| relay.ip().map(IpAddr::V4), ix.gw().into()),
            of(|relay| relay.ip6().map(IpAddr::V6), ix.gw_v6().into()),
        )
    }

    /// Drops UDP between the devices in every router that stands before one of them, except what goes to relays or comes
    /// from one.
    pub(crate) async fn cut(&self) -> Result<(), Trouble> {
        for router in self.places.values() {
            self.cut_at(router).await?;
        }
        Ok(())
    }

    /// The same in the one router before a device that has a network of its own.
    pub(crate) async fn cut_one(&self, device: &str) -> Result<(), Trouble> {
        self.cut_at(self.places.get(&Self::place_of(device)).ok_or("no such network")?).await
    }

    /// The name of the network of a device for which only a kind was said.
    pub(crate) fn place_of(device: &str) -> String {
        format!("net-{device}")
    }

    async fn cut_at(&self, router: &Router) -> Result<(), Trouble> {
        let (v4, v6) = self.spared();
        let mut rules = format!("{CUT} {{ chain forward {{ type filter hook forward priority -10; ");
        for (family, spared) in [("ip", v4), ("ip6", v6)] {
            let spared = spared.join(", ");
            rules.push_str(&format!("{family} daddr {{ {spared} }} accept; "));
            rules.push_str(&format!("{family} saddr {{ {spared} }} accept; "));
        }
        rules.push_str("meta l4proto udp drop; }; }");
        run(router, "nft", &[&rules]).await
    }

    pub(crate) async fn heal(&self) -> Result<(), Trouble> {
        for place in self.places.values() {
            // Made first, so that a network which was never cut is no error.
            run(place, "nft", &[&format!("{CUT} {{ }}; delete {CUT}")]).await?;
        }
        Ok(())
    }

    pub(crate) async fn replug(&self, device: &str, to: &str) -> Result<(), Trouble> {
        let router = self.places.get(to).ok_or("no such network")?;
        let iface = self.device(device)?.iface(IFACE).ok_or("the device has no interface")?;
        Ok(iface.replug(router.id()).await?)
    }
}

fn name_of_relay(number: usize) -> String {
    format!("relay-{number}.example")
}

/// What a router of this kind does. IPv4 only, but where IPv6 is the point: two devices with public IPv6 addresses have no
/// NAT between them.
fn shaped(router: RouterBuilder, kind: Kind) -> Result<RouterBuilder, Trouble> {
    Ok(match kind {
        Kind::Public => router.preset(RouterPreset::PublicV4),
        Kind::Open => router.preset(RouterPreset::Home).nat(Nat::Open).firewall(Firewall::None),
        Kind::Home => router.preset(RouterPreset::Home),
        Kind::Cgnat => router.preset(RouterPreset::IspCgnat),
        Kind::Corporate => router.preset(RouterPreset::Cloud),
        Kind::Hairpin => {
            let nat = NatConfig::builder().mapping(NatMapping::EndpointIndependent).hairpin(true).build()?;
            router.preset(RouterPreset::IspCgnat).nat(nat).firewall(Firewall::None)
        }
        Kind::Ipv6Only => return Ok(router.preset(RouterPreset::IspV6)),
        Kind::DualStack => return Ok(router.preset(RouterPreset::Home)),
        Kind::UdpBlocked => router.preset(RouterPreset::Corporate),
    }
    .ip_support(IpSupport::V4Only))
}

/// Runs a tool in a router's namespace; its words are the error if it fails.
async fn run(router: &Router, tool: &str, args: &[&str]) -> Result<(), Trouble> {
    finish(|command| router.spawn_command(command), tool, args).await
}

/// Runs a tool with whatever starts a command in a namespace.
async fn finish<E: Into<Trouble>>(
    start: impl FnOnce(Command) -> Result<Child, E>,
    tool: &str,
    args: &[&str],
) -> Result<(), Trouble> {
    let mut command = Command::new(tool);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = start(command).map_err(Into::into)?.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{tool} {}: {}", args.join(" "), said.trim()).into())
}
