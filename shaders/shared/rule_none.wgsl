// No update ends the product.
struct Rule {
    unused: u32,
}
