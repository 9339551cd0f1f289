//! A file that is copied or moved onto itself, from the mount onto its own home or back, is still there
//! afterwards, however the real programs are told to do it; and copies that lead elsewhere are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{Mount, Site, content, mount_table, skip};

/// Every original: its path and the seed of its content.
const FILES: [(&str, u64); 4] = [("f", 1), ("dir/g", 2), ("dir/sub/h", 3), ("-x", 4)];
const LEN: u64 = 70_001;
const MANY: u64 = 300;
/// Some hundred programs run, some with ten thousand arguments.
const LIMIT: Duration = Duration::from_secs(900);
const PROGRAMS: [&str; 7] = ["cp", "mv", "install", "dd", "rsync", "find", "busybox"];

/// From the mount `$M` onto the home `$H`. `$m` and `$h` are the same, relative; `$l` and `$k` are symlinks to them,
/// `$b` is a bind mount of the mount with the home's last name, `$P` the directory above the home.
const ONTO_THE_HOME: &[&str] = &[
    "cp $M/f $H/f",
    "cp $M/f $H",
    "cp $m/f $h/f",
    "cp $m/f $h/",
    "cp $M/f $H/.",
    "cp -f $M/f $H/dir/../f",
    "cp $M/f $H -v",
    "cp -- $M/f $H",
    "cp $M/f $M/dir/g -S .old $H",
    "cp -b $M/f $H",
    "cp $M/f $H -S .old",
    "cp -u $M/f $H",
    "cp -t $H $M/f",
    "cp -t$H $M/f",
    "cp $M/f -t $H",
    "cp -vt $H $M/f",
    "cp -avt$h $m/f",
    "cp --target-directory=$H $M/f",
    "cp --target-directory $H $M/f",
    "cp --target=$h $m/f",
    "cp $M/f --t $H",
    "cp --remove-destination $M/f $H/f",
    "cp --remove-destination -t $H $M/f",
    "cp -rT $M $H",
    "cp -r $M/. $H",
    "cp -r $M/dir $H",
    "cp -r $m/dir/ $h/",
    "cp -rT $M/dir $H/dir",
    "cp -r $M/dir/. $H/dir",
    "cp -a $M/dir/sub $H/dir",
    "cp -r $M/dir/sub/.. $H/dir",
    "cp -r --remove-destination $M/dir $H",
    "cd $M && cp -r . $H",
    "cd $M && cp -- -x $H",
    "cd $M && cp --parents dir/sub/h f $H",
    "cd $m && cp --parents dir/sub/h dir/g $up/$h/",
    "cd $m && cp --pa dir/g $up/$h/",
    "cd $m/dir && cp g sub/h $H/dir; cp sub/h $H/dir/sub",
    "cd $H && cp $M/f .",
    "cd $H/dir && cp -r $M/dir ..",
    "cp $l/f $H",
    "cp -r $l/. $H",
    "cp -rL $l/dir $k",
    "cp $M/f $k",
    "cp -r $M/. $k/",
    "cp $M/f $k/../$(basename $H)/f",
    "cp $M/f other/symlink",
    "cp $M/f other",
    "cd $l && cp -r . $H",
    "cp $b/f $H",
    "cp -r $b/. $H",
    "cp -r $b/dir $H",
    "cp -a $b $P",
    "cp $(seq 10000) $M/f $H",
    "cp $(seq 5000) $M/f $(seq 5001 10000) $H",
    "cp $M/f $(seq 5000) -t $H $(seq 5001 10000)",
    "cp $M/f --target-directory=$H $(seq 10000)",
    "cp $M/many/* $H/many/",
    "cp -t $H/many $M/many/*",
    "cp -r $(seq 10000) $M/dir $H",
    "find $M/many -type f -exec cp -t $H/many {} +",
    "find $M/dir -name g -exec cp {} $H/dir ';'",
    "ls $M/many | sed s,^,$M/many/, | xargs cp -t $H/many",
    "mv $M/f $H/f",
    "mv $M/f $H",
    "mv $m/f $h/",
    "mv -f $M/f $H -v",
    "mv -T $M/f $H/f",
    "mv -b $M/f $H/f",
    "mv -t $H $M/f",
    "mv -vt$h $m/f",
    "mv --target-directory=$H $M/f",
    "mv --targ $H $M/f",
    "cd $M && mv -- -x $H",
    "mv $M/dir $H",
    "mv $l/f $k/",
    "mv $b/f $H",
    "mv $(seq 10000) $M/f $H",
    "mv $M/f $(seq 10000) -t $H",
    "mv $M/many/* $H/many/",
    "install $M/f $H/f",
    "install $M/f $H",
    "install -m 644 -t $H $M/f",
    "install -D -t$h $m/f",
    "install --target-directory=$H $M/f",
    "install -D $M/dir/g $H/dir/g",
    "install -b $M/f $H",
    "install $M/many/* $H/many/",
    "dd if=$M/f of=$H/f",
    "dd of=$h/f bs=4k if=$m/f",
    "rsync --inplace $M/f $H/f",
    "rsync -a --inplace $m/f $h/f",
    "rsync -aI --inplace $M/dir $H",
    "rsync -a $M/ $H/",
    "rsync -aI --inplace $m/ $h/",
    "cd $m && rsync -aRI --inplace dir/sub/h $up/$h/",
    "rsync -a --remove-source-files $M/f $H/f",
    "rsync -a --remove-source-files $m/f $h/f",
    "rsync -a --remove-source-files $m/f $h/",
    "rsync -aI --remove-source-files $m/dir/ $h/dir/",
    "rsync -a --remove-source-files $m/dir $h",
    "busybox cp $M/f $H/f",
    "busybox cp -r $M/dir $H",
    "busybox cp -a $M/. $H",
    "busybox mv $M/f $H/f",
    "busybox dd if=$M/f of=$H/f",
    "multi/cp $M/f $H",
    "multi/mv $m/f $h",
];

/// The same where the mount's last name is the home's.
const BY_THE_SAME_NAME: &[&str] = &[
    "cp -r $M $P",
    "cp -a $m $(dirname $h)",
    "cp -a -t $P $M",
    "cp -r $M/ $P/",
    "cp -r $M/../models $P",
    "cp -r $(dirname $M)/. $P",
    "cd $(dirname $M) && cp -r models $P",
    "cd $(dirname $M) && cp -r . $P",
    "cd $(dirname $M) && cp --parents models/dir/sub/h $P",
    "cp -r --remove-destination $M $P",
    "mv $M $P",
    "rsync -aI --inplace $m $P",
    "rsync -a --remove-source-files $m $(dirname $h)",
    "busybox cp -r $M $P",
];

/// From the home onto the mount.
const ONTO_THE_MOUNT: &[&str] = &[
    "cp $H/f $M/f",
    "cp -f $h/f $m",
    "cp -t $M $H/f",
    "cp --target-directory=$M $H/f",
    "cp -r $H/dir $M",
    "cp -rT $H $M",
    "cp -a $H/. $M",
    "cp --remove-destination $H/f $M/f",
    "cp --remove-destination -t $m $h/f",
    "cp -r --remove-destination $H/dir $M",
    "cp -r --remove-destination $H/. $M",
    "cp -rT --remove-destination $h/dir $m/dir",
    "cp -r --remove-destination $k/dir $l",
    "cp -r --remove-destination $H/dir $b",
    "cp --remove-destination $(seq 5000) $H/f $(seq 5001 10000) $M",
    "cd $h && cp --parents --remove-destination dir/sub/h $M",
    "cp $H/many/* $M/many",
    "mv $H/f $M/f",
    "mv $h/f $m",
    "mv -t $M $H/f",
    "mv $H/f -t$m",
    "mv --target-directory=$m $h/f",
    "cd $H && mv -- -x $M",
    "mv $k/f $l/f",
    "mv $H/f $b/",
    "mv other/f $M/f",
    "mv $H/dir $M",
    "mv $(seq 5000) $H/f $(seq 5001 10000) $M",
    "mv $H/many/* $M/many",
    "install $H/f $M/f",
    "install $h/f $m",
    "install -D -t $M $H/f",
    "install --target-directory=$M $H/f",
    "install $H/many/* $M/many",
    "dd if=$H/f of=$M/f",
    "dd of=$m/f if=$h/f bs=1M",
    "rsync --inplace $H/f $M/f",
    "rsync -aI --inplace $h/dir $m",
    "rsync -aI $H/ $M/",
    "busybox cp $H/f $M/f",
    "busybox cp -r $H/dir $M",
    "busybox mv $H/f $M/f",
    "busybox mv -f $H/f $M",
    "busybox dd if=$H/f of=$M/f",
    "multi/mv $H/f $M",
];

/// Copies that destroy nothing, and what each makes of which file.
const ELSEWHERE: &[(&str, &str, u64)] = &[
    ("cp $M/f out", "out/f", 1),
    ("cp -a $M out/all", "out/all/dir/sub/h", 3),
    ("cp -r $l/. out", "out/dir/g", 2),
    ("cp -r $b/dir out", "out/dir/sub/h", 3),
    ("cp $b/f out", "out/f", 1),
    ("cp -t out $M/f", "out/f", 1),
    ("cd $M && cp --parents dir/sub/h $R/out", "out/dir/sub/h", 3),
    ("cd $H && cp -r $M/dir $R/out", "out/dir/g", 2),
    ("cd $H/dir && cp $M/dir/g $R/out/", "out/g", 2),
    ("cp $M/many/* out", "out/7", 107),
    ("cp $M/dir/g $H/", "$H/g", 2),
    ("cp $M/f $H/dir", "$H/dir/f", 1),
    ("cp $M/f $H/copy1", "$H/copy1", 1),
    ("cp $M/f $M/dir/copy2", "$H/dir/copy2", 1),
    ("cp -r $M/dir/. $H/new", "$H/new/g", 2),
    ("cp $H/f $M/copy3", "$H/copy3", 1),
    ("cp $M/f $M/copy4 && mv $M/copy4 out", "out/copy4", 1),
    ("cp $H/f out && mv out/f $M/copy5", "$H/copy5", 1),
    ("cp $M/f $M/copy6 && mv $M/copy6 $H/dir/", "$H/dir/copy6", 1),
    ("install -D $M/f out/in/f", "out/in/f", 1),
    ("dd if=$M/f of=out/f", "out/f", 1),
    ("rsync -a $m/ out/", "out/dir/sub/h", 3),
    ("cd $h && rsync -aR $M/dir $R/out/", "out$M/dir/g", 2),
    ("busybox cp -r $M/dir out", "out/dir/g", 2),
];

/// A mount, the home that is copied onto, and what the commands are told of both.
struct Scene {
    mount: Mount,
    home: PathBuf,
    bound: PathBuf,
    has_links: bool,
}

impl Scene {
    /// `home` and `mountpoint` are below the site's root. With `has_links` a file has another name outside.
    fn start(site: Site, home: &str, mountpoint: &str, has_links: bool) -> Option<Scene> {
        if skip::lacks_programs(&PROGRAMS) {
            return None;
        }
        let root = site.root().to_owned();
        let (home, mounted) = (root.join(home), root.join(mountpoint));
        let last = home.file_name().unwrap();
        let bound = root.join("bound").join(last);
        for directory in [&bound, &root.join("other"), &root.join("multi")] {
            fs::create_dir_all(directory).unwrap();
        }
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        };
        link(&mounted, "to-mount");
        link(&home, "to-home");
        link(&home.join("f"), "other/symlink");
        let busybox = String::from_utf8(sh("command -v busybox").stdout).unwrap();
        for applet in ["multi/cp", "multi/mv"] {
            link(Path::new(busybox.trim()), applet);
        }
        restore(&home);
        let mount = site.start()?;
        rustix::mount::mount_bind(&mounted, &bound).unwrap();
        Some(Scene {
            mount,
            home,
            bound,
            has_links,
        })
    }

    /// Runs a shell's command where all names lead to where they should.
    fn run(&self, command: &str) -> Output {
        let root = self.mount.root();
        let below = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let (mounted, home) = (self.mount.mounted(""), &self.home);
        let mounted = mounted.components().collect::<PathBuf>();
        let up = vec![".."; mounted.strip_prefix(root).unwrap().components().count()].join("/");
        Command::new("sh")
            .args(["-c", command])
            .current_dir(root)
            .env("PWD", root)
            .env("R", root)
            .env("M", &mounted)
            .env("m", below(&mounted))
            .env("H", home)
            .env("h", below(home))
            .env("P", home.parent().unwrap())
            .env("l", "to-mount")
            .env("k", "to-home")
            .env("b", below(&self.bound))
            .env("up", up)
            .output()
            .unwrap()
    }

    /// Runs each command, and tells after which of them something was lost.
    fn losses(&self, commands: &[&str]) -> Vec<String> {
        let mut losses = Vec::new();
        for command in commands {
            let linked = self.mount.root().join("other/f");
            let _ = fs::remove_file(&linked);
            if self.has_links {
                fs::hard_link(self.home.join("f"), &linked).unwrap();
            }
            let told = self.run(command);
            let lost: Vec<String> = originals()
                .into_iter()
                .filter_map(|(name, seed, len)| {
                    content::check_file(&self.home.join(name), seed, len).err()
                })
                .collect();
            if !lost.is_empty() {
                let error = String::from_utf8_lossy(&told.stderr).into_owned();
                let first = error.lines().last().unwrap_or_default();
                let status = told.status;
                losses.push(format!(
                    "{command}: {status}, {first}: {} lost, {}",
                    lost.len(),
                    lost[0]
                ));
                restore(&self.home);
            }
        }
        losses
    }

    fn finish(self) {
        mount_table::unmount(&self.bound);
        self.mount.finish();
    }
}

fn sh(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).output().unwrap()
}

fn originals() -> Vec<(String, u64, u64)> {
    let few = FILES.map(|(name, seed)| (name.to_owned(), seed, LEN));
    let many = (1..=MANY).map(|number| (format!("many/{number}"), 100 + number, 11));
    few.into_iter().chain(many).collect()
}

/// Writes what is not there as it was.
fn restore(home: &Path) {
    for (name, seed, len) in originals() {
        let path = home.join(name);
        if content::check_file(&path, seed, len).is_err() {
            content::write_file(&path, seed, len);
        }
    }
}

/// It was lost where the mount's last name is the home's, with 256 arguments or more, and with spellings of the target
/// like `--target-directory=`.
#[test]
fn moving_between_the_mount_and_its_homes_destroys_nothing() {
    let layouts = [("models", "mnt", false), ("home/models", "m/models", true)];
    for (home, mountpoint, same_name) in layouts {
        let site = Site::new().limit(LIMIT).at(home, mountpoint);
        let Some(scene) = Scene::start(site, home, mountpoint, true) else {
            return;
        };
        let mut losses = Vec::new();
        if same_name {
            scene.mount.promote_wait("f");
            losses.extend(scene.losses(BY_THE_SAME_NAME));
        }
        losses.extend(scene.losses(ONTO_THE_HOME));
        losses.extend(scene.losses(ONTO_THE_MOUNT));
        assert!(losses.is_empty(), "{mountpoint}:\n{}", losses.join("\n"));
        let events = scene.mount.events();
        let told = events
            .iter()
            .any(|event| event.text.contains("are the same file"));
        assert!(told, "{events:?}");
        scene.finish();
    }
}

/// Whether a program takes the original's name away in its home before it reads it through the mount.
fn takes_away_first(command: &str) -> bool {
    let programs = ["mv ", "install ", "--remove-destination", " -b ", " -S "];
    programs.iter().any(|part| command.contains(part))
}

#[test]
fn copying_from_the_mount_to_a_cold_directory_destroys_nothing() {
    for (cold, mountpoint) in [("cold0", "mnt"), ("far/models", "m/models")] {
        let mut site = Site::new().limit(LIMIT).at("own", mountpoint).unguarded();
        let path = site.root().join(cold);
        fs::create_dir_all(&path).unwrap();
        site.set_cold(0, path);
        let Some(scene) = Scene::start(site, cold, mountpoint, false) else {
            return;
        };
        let copies = |commands: &[&'static str]| -> Vec<&'static str> {
            let copies = commands.iter().filter(|command| !takes_away_first(command));
            copies.copied().collect()
        };
        let mut losses = scene.losses(&copies(ONTO_THE_HOME));
        if mountpoint == "m/models" {
            losses.extend(scene.losses(&copies(BY_THE_SAME_NAME)));
        }
        assert!(losses.is_empty(), "{mountpoint}:\n{}", losses.join("\n"));
        scene.finish();
    }
}

#[test]
fn copies_that_lead_elsewhere_are_made() {
    for (home, mountpoint) in [("models", "mnt"), ("home/models", "m/models")] {
        let site = Site::new().limit(LIMIT).at(home, mountpoint);
        let Some(scene) = Scene::start(site, home, mountpoint, true) else {
            return;
        };
        for (command, made, seed) in ELSEWHERE {
            let shown = format!("{mountpoint}: {command}");
            let told = scene.run(&format!("mkdir out && {command}"));
            assert!(told.status.success(), "{shown}: {told:?}");
            let made = scene.run(&format!("printf %s {made}")).stdout;
            let made = scene.mount.root().join(String::from_utf8(made).unwrap());
            let len = if *seed > 100 { 11 } else { LEN };
            content::check_file(&made, *seed, len)
                .unwrap_or_else(|error| panic!("{shown}: {error}"));
            let clear = "rm -rf out $H/copy? $H/g $H/new $H/dir/f $H/dir/copy?";
            assert!(scene.run(clear).status.success());
        }
        assert!(scene.losses(&["true"]).is_empty());
        scene.finish();
    }
}
