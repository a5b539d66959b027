fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libbaton.so.0");
}
