//! Two devices behind NAT boxes of the kernel, in network namespaces, with two observers and a stand-in for a relay on the net
//! between them.
//!
//! ```text
//!   here 10.81.0.2 --- box-here 10.81.0.1 | 198.51.100.2 --+
//!                                                          +--- net: observers .10 and .20, relay .30
//!  there 10.82.0.2 -- box-there 10.82.0.1 | 198.51.100.3 --+
//! ```
//!
//! The stand-in passes datagrams from one device to the other, as a relay does for QUIC.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use honeylink::nat::{NatOptions, ObserverAt, ObserverSockets};
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{DeviceId, Node, Reach, testing};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use crate::Trouble;

const NET: &str = "net";
const OBSERVERS: [&str; 2] = ["198.51.100.10:7842", "198.51.100.20:7842"];
const RELAY: [&str; 2] = ["198.51.100.30:7901", "198.51.100.30:7902"];
/// Largest datagram that is passed on.
const DATAGRAM_BYTES: usize = 2048;

/// A kind of box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps ports; lets in whom was sent to.
    Home,
    /// A random port for each destination; lets in whom was sent to.
    Random,
}

impl Kind {
    const fn rule(self) -> &'static str {
        match self {
            Self::Home => "masquerade",
            Self::Random => "masquerade fully-random",
        }
    }
}

/// One end: a namespace behind a box.
struct End {
    name: &'static str,
    gateway: &'static str,
    device: &'static str,
    gateway_ip: &'static str,
    device_ip: &'static str,
    wan_ip: &'static str,
}

const ENDS: [End; 2] = [
    End {
        name: "here",
        gateway: "box-here",
        device: "here",
        gateway_ip: "10.81.0.1",
        device_ip: "10.81.0.2",
        wan_ip: "198.51.100.2",
    },
    End {
        name: "there",
        gateway: "box-there",
        device: "there",
        gateway_ip: "10.82.0.1",
        device_ip: "10.82.0.2",
        wan_ip: "198.51.100.3",
    },
];

/// Whether this machine lets us make such a world; if not, why.
pub(crate) fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".into());
    }
    for tool in ["ip -V", "nft --version", "conntrack --version"] {
        run(tool).map_err(|error| format!("`{tool}`: {error}"))?;
    }
    World::new([Kind::Home, Kind::Random]).map(|_| ()).map_err(|error| error.to_string())
}

/// Namespaces and what runs on the net. All goes when this does.
pub(crate) struct World {
    prefix: String,
    names: Vec<&'static str>,
    runtimes: Vec<Runtime>,
    observers: Vec<ObserverAt>,
    passing: Arc<AtomicBool>,
}

impl World {
    /// The first box is before the device that dials.
    pub(crate) fn new(boxes: [Kind; 2]) -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hlh{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let passing = Arc::new(AtomicBool::new(true));
        let mut world =
            Self { prefix, names: Vec::new(), runtimes: Vec::new(), observers: Vec::new(), passing };
        for name in [NET, "box-here", "here", "box-there", "there"] {
            run(&format!("ip netns add {}", world.full(name)))?;
            world.names.push(name);
            world.ip(name, "link set lo up")?;
        }
        world.ip(NET, "link add wan type bridge")?;
        for host in ["1", "10", "20", "30"] {
            world.ip(NET, &format!("addr add 198.51.100.{host}/24 dev wan"))?;
        }
        world.ip(NET, "link set wan up")?;
        for (end, kind) in ENDS.iter().zip(boxes) {
            world.attach(end, kind)?;
        }
        for name in [NET, "here", "there"] {
            let runtime = world.runtime(name)?;
            world.runtimes.push(runtime);
        }
        world.populate()?;
        Ok(world)
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn ip(&self, name: &str, what: &str) -> Result<(), Trouble> {
        run(&format!("ip -n {} {what}", self.full(name)))
    }

    /// A device, its box, and the cables.
    fn attach(&self, end: &End, kind: Kind) -> Result<(), Trouble> {
        let (gateway, device) = (end.gateway, end.device);
        let cable = |from: &str, one: &str, to: &str, other: &str| {
            let to = self.full(to);
            self.ip(from, &format!("link add {one} type veth peer name {other} netns {to}"))
        };
        cable(NET, &format!("to-{}", end.name), gateway, "wan")?;
        self.ip(NET, &format!("link set to-{} master wan", end.name))?;
        self.ip(NET, &format!("link set to-{} up", end.name))?;
        cable(device, "eth0", gateway, "lan")?;
        for (name, interface, ip) in
            [(gateway, "wan", end.wan_ip), (gateway, "lan", end.gateway_ip), (device, "eth0", end.device_ip)]
        {
            self.ip(name, &format!("addr add {ip}/24 dev {interface}"))?;
            self.ip(name, &format!("link set {interface} up"))?;
        }
        self.ip(device, &format!("route add default via {}", end.gateway_ip))?;
        self.inside(gateway, "sysctl -qw net.ipv4.ip_forward=1")?;
        let rules = [
            "add table ip box".to_owned(),
            "add chain ip box out { type nat hook postrouting priority 100 ; }".to_owned(),
            format!("add rule ip box out oifname wan {}", kind.rule()),
            "add chain ip box in { type filter hook input priority 0 ; }".to_owned(),
            "add rule ip box in iifname wan ct state new drop".to_owned(),
        ];
        rules.iter().try_for_each(|rule| self.inside(gateway, &format!("nft {rule}")))
    }

    fn inside(&self, name: &str, what: &str) -> Result<(), Trouble> {
        run(&format!("ip netns exec {} {what}", self.full(name)))
    }

    /// A runtime whose threads, and the sockets they open, are in a namespace.
    fn runtime(&self, name: &str) -> Result<Runtime, Trouble> {
        let space = Arc::new(File::open(format!("/run/netns/{}", self.full(name)))?);
        Ok(tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || {
                // A thread that stayed outside would open sockets that nobody here reaches: the run fails then.
                let _ = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
            })
            .build()?)
    }

    fn on(&self, at: usize) -> Result<&Runtime, Trouble> {
        self.runtimes.get(at).ok_or_else(|| "no such place".into())
    }

    /// Two observers and the relay's stand-in.
    fn populate(&mut self) -> Result<(), Trouble> {
        let passing = self.passing.clone();
        let starting = async move {
            let mut observers = Vec::new();
            for (seed, at) in (901..).zip(OBSERVERS) {
                let key = honeylink_key(seed);
                let sockets = ObserverSockets::bind(at.parse()?, key)?;
                observers.push(ObserverAt { id: sockets.id(), at: at.to_owned() });
                tokio::spawn(async move { sockets.run().await });
            }
            let [one, other] = RELAY;
            let (one, other) = (UdpSocket::bind(one).await?, UdpSocket::bind(other).await?);
            tokio::spawn(pass_on(one, other, passing));
            Ok::<_, Trouble>(observers)
        };
        let net = self.on(0)?;
        self.observers = net.block_on(async { tokio::spawn(starting).await })??;
        Ok(())
    }

    /// The relay passes nothing on any more, or does so again.
    pub(crate) fn set_passing(&self, on: bool) {
        self.passing.store(on, Ordering::Relaxed);
    }

    /// The box before the device that dials forgets every mapping, as after a power cut.
    pub(crate) fn restart_box(&self) -> Result<(), Trouble> {
        self.inside("box-here", "conntrack -F")
    }

    /// The two devices, paired, with no way to each other but the relay's. The first is to dial.
    pub(crate) fn devices(&self) -> Result<[Node; 2], Trouble> {
        let mut nodes = Vec::new();
        for (at, name) in [(1, "here"), (2, "there")] {
            let nat = NatOptions::default().observers(self.observers.clone());
            let building = Node::builder().name(name).reach(Reach::Wide).discovery(false).nat(nat).build();
            let node = self.on(at)?.block_on(async { tokio::spawn(building).await })??;
            nodes.push(node);
        }
        let [here, there]: [Node; 2] = nodes.try_into().map_err(|_| "two devices")?;
        for (one, other) in [(&here, &there), (&there, &here)] {
            let peer = NewPeer {
                id: other.id(),
                name: None,
                announced_name: other.name(),
                device_type: other.device_type(),
                method: PairingMethod::Code,
            };
            one.store().trust().pair(&peer, OnNameTaken::Disambiguate, 0)?;
        }
        for (at, node, peer, relay) in
            [(1, here.clone(), there.id(), RELAY[0]), (2, there.clone(), here.id(), RELAY[1])]
        {
            let relay: SocketAddr = relay.parse()?;
            let joining = join(node, peer, relay);
            self.on(at)?.block_on(async { tokio::spawn(joining).await })??;
        }
        Ok([here, there])
    }

    /// Runs something where the first device (0) or the second (1) is.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        at: usize,
        what: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Trouble> {
        Ok(self.on(at + 1)?.block_on(async { tokio::spawn(what).await })?)
    }

    /// As [`World::run`], in the background.
    pub(crate) fn spawn(
        &self,
        at: usize,
        what: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Trouble> {
        self.on(at + 1)?.spawn(what);
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            runtime.shutdown_background();
        }
        for name in &self.names {
            // Nobody is left to be told; the next run makes others.
            let _ = run(&format!("ip netns del {}", self.full(name)));
        }
    }
}

fn honeylink_key(seed: u64) -> honeylink::SecretKey {
    honeylink::SecretKey::from_u64(seed)
}

/// Makes the relay known to a node, and the node's socket to the relay.
async fn join(node: Node, peer: DeviceId, relay: SocketAddr) -> Result<(), Trouble> {
    let socket = Arc::new(UdpSocket::bind("0.0.0.0:0").await?);
    socket.send_to(b"here I am", relay).await?;
    Ok(testing::pass_on(&node, peer, socket, relay)?)
}

/// Passes on what comes to one socket from the other, to whoever was heard last on that.
async fn pass_on(one: UdpSocket, other: UdpSocket, passing: Arc<AtomicBool>) {
    let sockets = [one, other];
    let mut known: [Option<SocketAddr>; 2] = [None; 2];
    let mut buffers = [[0; DATAGRAM_BYTES]; 2];
    let [one, other] = &sockets;
    let [first, second] = &mut buffers;
    loop {
        let (at, read) = tokio::select! {
            read = one.recv_from(first) => (0, read),
            read = other.recv_from(second) => (1, read),
        };
        let Ok((length, from)) = read else { continue };
        let bytes = if at == 0 { &first[..length] } else { &second[..length] };
        known[at] = Some(from);
        if let (true, Some(to)) = (passing.load(Ordering::Relaxed), known[1 - at]) {
            // A full buffer loses it.
            let _ = sockets[1 - at].try_send_to(bytes, to);
        }
    }
}

fn run(command: &str) -> Result<(), Trouble> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("no command")?;
    let out = Command::new(program).args(words).stdin(Stdio::null()).output();
    let out = out.map_err(|error| format!("`{command}`: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("`{command}`: {}", String::from_utf8_lossy(&out.stderr).trim()).into())
}
